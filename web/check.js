// What must hold of a network before it is run: order, sizes, ranges, and the proof that no int32 overflows.
//
// The proof's sums are numbers of JavaScript: exact up to 2^53, and what is above that is far above the limit of 2^31 anyway.

import { addition, half, magnitude, maxAbs } from './digits.js';

const MAX_NODES = 4096;
const MAX_ACTIVATION = 2 ** 26;
const MAX_ACTIVATIONS = 2 ** 28;
const MAX_SIDE = 8192;
const MAX_CHANNELS = 2 ** 16;
const MAX_KERNEL = 31;
const MAX_EXPONENT = 64;
const MAX_WEIGHTS = 2 ** 28;
const MAX_BITS = 6;
const LIMIT = 2 ** 31 - 1;

/** A file that is no network, or not a whole one; its message names the field. */
export class ModelError extends Error {}

export function refuse(what) {
  throw new ModelError(what);
}

function bounded(field, value, low, high) {
  if (!(value >= low && value <= high)) refuse(`${field} is ${value}, but must be between ${low} and ${high}`);
}

function equal(field, value, wanted) {
  if (value !== wanted) refuse(`${field} is ${value}, but must be ${wanted}`);
}

/** Runs a check; what it refuses gets the node's place in front. */
function at(i, node, check) {
  try {
    check();
  } catch (error) {
    if (error instanceof ModelError) error.message = `graph.nodes[${i}] (\`${node.name}\`): ${error.message}`;
    throw error;
  }
}

/** Weights that a node's tensor must hold: none for an operation without. */
export function weightCount({ op, shape }, inputs) {
  if (op.type === 'conv') return shape.c * inputs[0].shape.c * op.kernel * op.kernel;
  return op.type === 'linear' ? shape.c * inputs[0].shape.c : 0;
}

const elements = ({ h, w, c }) => h * w * c;
const shown = ({ h, w, c }) => `${h}x${w}x${c}`;

/** Order, shapes, kinds and ranges; needs no weight, so that it can come before they are read. */
export function checkStructure(nodes) {
  bounded('the number of graph.nodes', nodes.length, 2, MAX_NODES);
  const names = new Set();
  let [total, weighing] = [0, 0];
  nodes.forEach((node, i) =>
    at(i, node, () => {
      if (!/^[A-Za-z0-9._]{1,80}$/.test(node.name)) refuse('name must be 1 to 80 letters, digits, dots and underscores');
      if (names.has(node.name)) refuse('name occurs twice');
      names.add(node.name);
      const late = node.inputs.find((input) => input >= i);
      if (late !== undefined) refuse(`inputs has node ${late}, which does not come before it: out of order`);
      bounded('shape.h', node.shape.h, 1, MAX_SIDE);
      bounded('shape.w', node.shape.w, 1, MAX_SIDE);
      bounded('shape.c', node.shape.c, 1, MAX_CHANNELS);
      bounded('the product of shape', elements(node.shape), 1, MAX_ACTIVATION);
      total += elements(node.shape);
      bounded('exponent', node.exponent, -MAX_EXPONENT, MAX_EXPONENT);
      const type = node.op.type;
      equal('the number of inputs', node.inputs.length, type === 'input' ? 0 : type === 'add' ? 2 : 1);
      const inputs = node.inputs.map((input) => nodes[input]);
      operation(node, inputs);
      weighing += weightCount(node, inputs);
      bounded('the number of weights up to here', weighing, 0, MAX_WEIGHTS);
      if ((type === 'input') !== (i === 0) || (type === 'linear') !== (i + 1 === nodes.length)) {
        refuse('op: the input must be the first node and `linear` the last');
      }
    }),
  );
  bounded('the sum over graph.nodes of the products of shape', total, 1, MAX_ACTIVATIONS);
}

function operation(node, [x, y]) {
  const { op, shape, kind, exponent } = node;
  const kinds = (...allowed) => allowed.includes(kind) || refuse(`kind is ${kind}, which its op cannot give`);
  const sameAs = (wanted) => shown(shape) === shown(wanted) || refuse(`shape is ${shown(shape)}, but its op gives ${shown(wanted)}`);
  const unchanged = () => (kind === x.kind && exponent === x.exponent) || refuse("kind or exponent is not its input's");
  if (op.type !== 'linear' && [x, y].some((n) => n?.kind === 'i32')) refuse('inputs has a node that is not 8 bits wide');
  switch (op.type) {
    case 'input':
      kinds('i8');
      break;
    case 'conv':
      kinds('i8', 'u8');
      sameAs({ ...moved(x.shape, op), c: shape.c });
      convolution(op, shape.c);
      break;
    case 'add': {
      kinds('i8', 'u8');
      sameAs(x.shape);
      sameAs(y.shape);
      const [left, right, out] = addition(x.exponent, y.exponent, exponent);
      bounded("exponent: its distance to an input's", Math.max(left, right, out), 0, 30);
      bounded('the largest sum', maxAbs(x.kind) * 2 ** left + maxAbs(y.kind) * 2 ** right + half(out), 0, LIMIT);
      break;
    }
    case 'pad_shortcut':
      bounded('stride', op.stride, 1, MAX_KERNEL);
      if (shape.c < x.shape.c || (shape.c - x.shape.c) % 2) {
        refuse(`shape.c is ${shape.c}, which does not centre ${x.shape.c} channels`);
      }
      sameAs({ h: Math.ceil(x.shape.h / op.stride), w: Math.ceil(x.shape.w / op.stride), c: shape.c });
      unchanged();
      break;
    case 'max_pool':
      kinds('u8');
      sameAs(moved(x.shape, op));
      unchanged();
      break;
    case 'global_sum':
      kinds('i32');
      bounded('preshift', op.preshift, 0, 30);
      sameAs({ h: 1, w: 1, c: x.shape.c });
      equal('exponent', exponent, x.exponent + op.preshift);
      bounded('the largest sum', x.shape.h * x.shape.w * maxAbs(x.kind) + half(op.preshift), 0, LIMIT);
      break;
    case 'linear':
      kinds('i32');
      if (x.op.type !== 'global_sum') refuse('inputs must be a `global_sum`');
      sameAs({ h: 1, w: 1, c: shape.c });
      equal('exponent', exponent, 0);
      if (!(Number.isFinite(op.scale) && op.scale > 0)) refuse(`scale is ${op.scale}, but must be finite and above 0`);
  }
}

/** The output of a window that moves over x. */
function moved(x, { kernel, stride, pad }) {
  bounded('kernel', kernel, 1, MAX_KERNEL);
  bounded('stride', stride, 1, MAX_KERNEL);
  bounded('pad', pad, 0, kernel - 1);
  // An implementation may hold a padded copy.
  const more = 2 * pad + stride;
  bounded("the product of its padded input's shape", elements({ h: x.h + more, w: x.w + more, c: x.c }), 1, 2 * MAX_ACTIVATION);
  const side = (size) => Math.floor((size + 2 * pad - kernel) / stride) + 1;
  if (side(x.h) < 1 || side(x.w) < 1) refuse(`kernel is ${kernel}, larger than its padded input of ${shown(x)}`);
  return { h: side(x.h), w: side(x.w), c: x.c };
}

function convolution({ preshift, multiplier, bias, shift, weight }, cout) {
  bounded('preshift', preshift, 0, 30);
  equal('the length of multiplier', multiplier.length, cout);
  equal('the length of bias', bias.length, cout);
  equal('the length of shift', shift.length, cout);
  multiplier.forEach((m) => bounded('multiplier', m, -255, 255));
  shift.forEach((n) => bounded('shift', n, 1, 31));
  if (weight.type === 'shift') {
    bounded('weight.shift.bits', weight.bits, 1, MAX_BITS);
    equal('the length of weight.shift.table', weight.table.length, 2 ** (weight.bits - 1));
    weight.table.forEach((p) => p === null || bounded('weight.shift.table', p, 0, 30));
    bounded('weight.shift.exponent', weight.exponent, -MAX_EXPONENT, MAX_EXPONENT);
  }
}

/** What needs the weights: class names, and the proof that no int32 overflows. The structure has been checked. */
export function checkModel({ info, nodes }) {
  equal('the number of class_names', info.classNames.length, nodes.at(-1).shape.c);
  if (info.classNames.some((name) => /\p{Cc}/u.test(name))) refuse('class_names: a name holds a control character');
  nodes.forEach((node, i) =>
    at(i, node, () => {
      const x = nodes[node.inputs[0]];
      if (node.op.type === 'conv') proveConvolution(node.op, x.kind);
      if (node.op.type === 'linear') proveClassifier(node.op, nodes[x.inputs[0]], x.op.preshift);
    }),
  );
}

const shifted = (largest, preshift) => Math.floor((largest + half(preshift)) / 2 ** preshift);

function proveConvolution({ weight, preshift, multiplier, bias, shift }, kind) {
  const sizes = weight.type === 'int8'
    ? Array.from({ length: 256 }, (_, byte) => magnitude(byte < 128 ? byte : byte - 256))
    : weight.table.map((p) => (p === null ? 0 : 2 ** p));
  const codes = weight.type === 'int8' ? new Uint8Array(weight.values.buffer, weight.values.byteOffset, weight.values.length) : weight.index;
  const each = codes.length / multiplier.length;
  multiplier.forEach((m, c) => {
    let sum = 0;
    for (let i = c * each; i < (c + 1) * each; i++) sum += sizes[codes[i]];
    const acc = sum * maxAbs(kind);
    bounded(`the largest sum of channel ${c}`, acc + half(preshift), 0, LIMIT);
    const largest = shifted(acc, preshift) * magnitude(m) + Math.abs(bias[c]) + half(shift[c]);
    bounded(`the largest product of channel ${c} with its multiplier`, largest, 0, LIMIT);
  });
}

function proveClassifier({ weight, bias }, pooled, preshift) {
  const largest = shifted(pooled.shape.h * pooled.shape.w * maxAbs(pooled.kind), preshift);
  const features = weight.length / bias.length;
  bias.forEach((b, c) => {
    let sum = 0;
    for (const w of weight.subarray(c * features, (c + 1) * features)) sum += magnitude(w);
    bounded(`the largest logit of class ${c}`, sum * largest + Math.abs(b), 0, LIMIT);
  });
}
