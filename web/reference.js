// The network in JavaScript, as its definition says: int32 arithmetic, shifts and additions, no multiplication of
// activations. Activations are Int32Array [C, H, W].

import { addition, digits, range, roundShift, times } from './digits.js';

/** Runs one image, u8 [C, H, W]: yields [node's index, output] one node after another; the last output is the logits. */
export function* forward(model, image) {
  const { nodes } = model;
  const lastUse = new Map();
  nodes.forEach(({ inputs }, i) => inputs.forEach((input) => lastUse.set(input, i)));
  const outputs = [];
  for (const [i, node] of nodes.entries()) {
    outputs[i] = run(node, node.inputs.map((input) => nodes[input]), node.inputs.map((input) => outputs[input]), image);
    yield [i, outputs[i]];
    for (const [input, last] of lastUse) if (last === i) outputs[input] = null;
  }
}

/** Logits of one image. */
export function logits(model, image) {
  let last;
  for (const [, output] of forward(model, image)) last = output;
  return last;
}

function run(node, [from, other], [x, y], image) {
  const { op, shape } = node;
  switch (op.type) {
    case 'input':
      return lookUp(op.lut, image);
    case 'conv':
      return convolve(node, from.shape, x);
    case 'add':
      return add(node, addition(from.exponent, other.exponent, node.exponent), x, y);
    case 'pad_shortcut':
      return padShortcut(op.stride, shape, from.shape, x);
    case 'max_pool':
      return maxPool(op, shape, from.shape, x);
    case 'global_sum': {
      const pixels = from.shape.h * from.shape.w;
      return Int32Array.from({ length: shape.c }, (_, c) => {
        let sum = 0;
        for (let i = c * pixels; i < (c + 1) * pixels; i++) sum = (sum + x[i]) | 0;
        return roundShift(sum, op.preshift);
      });
    }
    case 'linear':
      return op.bias.map((bias, c) => {
        let sum = bias;
        for (let i = 0; i < x.length; i++) sum = (sum + times(x[i], digits(op.weight[c * x.length + i]))) | 0;
        return sum;
      });
  }
}

/** LUT[channel][pixel]. */
function lookUp(lut, image) {
  const pixels = image.length / (lut.length / 256);
  return Int32Array.from(image, (pixel, i) => lut[256 * Math.floor(i / pixels) + pixel]);
}

/** The planes [c, h, w] with `pad` zeros on all four sides. */
function padded({ h, w, c }, x, pad) {
  if (pad === 0) return x;
  const [height, width] = [h + 2 * pad, w + 2 * pad];
  const out = new Int32Array(c * height * width);
  for (let row = 0; row < c * h; row++) {
    const at = ((Math.floor(row / h) * height) + (row % h) + pad) * width + pad;
    out.set(x.subarray(row * w, (row + 1) * w), at);
  }
  return out;
}

/** Weights [Cout, kh, kw, Cin] of an output channel as {at: offset into a padded plane, shift, negative}, zeros left out. */
function terms({ kernel, weight }, co, cin, height, width) {
  const found = [];
  let i = co * kernel * kernel * cin;
  for (let ky = 0; ky < kernel; ky++) {
    for (let kx = 0; kx < kernel; kx++) {
      for (let ci = 0; ci < cin; ci++, i++) {
        const at = (ci * height + ky) * width + kx;
        if (weight.type === 'int8') {
          for (const digit of digits(weight.values[i])) found.push({ at, ...digit });
        } else if (weight.table[weight.index[i]] !== null) {
          found.push({ at, shift: weight.table[weight.index[i]], negative: weight.negative[i] === 1 });
        }
      }
    }
  }
  return found;
}

function convolve({ op, shape, kind }, from, x) {
  const { stride, pad, preshift, multiplier, bias, shift } = op;
  const [height, width] = [from.h + 2 * pad, from.w + 2 * pad];
  const plane = padded(from, x, pad);
  const [low, high] = range(kind);
  const size = shape.h * shape.w;
  const out = new Int32Array(shape.c * size);
  const sums = new Int32Array(size);
  for (let c = 0; c < shape.c; c++) {
    sums.fill(0);
    for (const term of terms(op, c, from.c, height, width)) accumulate(sums, plane, term, shape, stride, width);
    const factor = digits(multiplier[c]);
    for (let i = 0; i < size; i++) {
      const product = (times(roundShift(sums[i], preshift), factor) + bias[c]) | 0;
      out[c * size + i] = Math.min(Math.max(roundShift(product, shift[c]), low), high);
    }
  }
  return out;
}

/** Adds ± (x << shift) of one weight to the sums of all pixels. An Int32Array keeps what fits 32 bits. */
function accumulate(sums, plane, { at, shift, negative }, { h, w }, stride, width) {
  for (let y = 0, i = 0; y < h; y++) {
    let from = at + y * stride * width;
    if (negative) for (const end = i + w; i < end; i++, from += stride) sums[i] -= plane[from] << shift;
    else for (const end = i + w; i < end; i++, from += stride) sums[i] += plane[from] << shift;
  }
}

/** clamp(((x << left) + (y << right) + half) >> out). */
function add({ kind }, [left, right, out], x, y) {
  const [low, high] = range(kind);
  return x.map((v, i) => Math.min(Math.max(roundShift(((v << left) + (y[i] << right)) | 0, out), low), high));
}

/** Every stride-th pixel, zero channels around. */
function padShortcut(stride, shape, from, x) {
  const out = new Int32Array(shape.c * shape.h * shape.w);
  let at = ((shape.c - from.c) / 2) * shape.h * shape.w;
  for (let c = 0; c < from.c; c++) {
    for (let i = 0; i < shape.h; i++) {
      for (let j = 0; j < shape.w; j++) out[at++] = x[(c * from.h + stride * i) * from.w + stride * j];
    }
  }
  return out;
}

/** The largest of each window; the padding's zeros are what a ReLU's output has anyway. */
function maxPool({ kernel, stride, pad }, shape, from, x) {
  const [height, width] = [from.h + 2 * pad, from.w + 2 * pad];
  const plane = padded(from, x, pad);
  const out = new Int32Array(shape.c * shape.h * shape.w);
  for (let i = 0; i < out.length; i++) {
    const [c, oy, ox] = [Math.floor(i / (shape.h * shape.w)), Math.floor(i / shape.w) % shape.h, i % shape.w];
    for (let k = 0; k < kernel * kernel; k++) {
      const row = c * height + oy * stride + Math.floor(k / kernel);
      out[i] = Math.max(out[i], plane[row * width + ox * stride + (k % kernel)]);
    }
  }
  return out;
}
