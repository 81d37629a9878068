// Reads an integer network from a safetensors file. Every size, offset and field is checked before anything is allocated,
// and what is wrong is named as the native reader names it.

import { checkModel, checkStructure, refuse, weightCount } from './check.js';
import { readNodes, readText } from './schema.js';
import { crc32 } from './sums.js';

const FORMAT = 's3gpu-int 1';
/** Largest header and file, in bytes. */
const MAX_HEADER = 16 * 2 ** 20;
export const MAX_FILE = 2 ** 30;
/** Bytes of a value, for the types that a network's tensors have. */
const SIZES = { I8: 1, U8: 1, I16: 2, U16: 2, I32: 4, U32: 4, F16: 2, BF16: 2, F32: 4, I64: 8, U64: 8, F64: 8, BOOL: 1 };

/** Tensors {name: {dtype, shape, bytes}} and metadata of a safetensors file. Tensors are views of `bytes`, not copies. */
function readContainer(bytes) {
  if (bytes.length > MAX_FILE) refuse(`${bytes.length} bytes, more than the ${MAX_FILE} that are read`);
  if (bytes.length < 9) refuse(`only ${bytes.length} bytes: empty or truncated`);
  const prefix = new DataView(bytes.buffer, bytes.byteOffset, 8).getBigUint64(0, true);
  if (bytes[8] !== 0x7b || prefix === 0n || prefix > BigInt(MAX_HEADER)) refuse('not a safetensors file');
  const length = Number(prefix);
  if (length > bytes.length - 8) {
    refuse(`truncated: the header alone has ${length} bytes, the file has ${bytes.length}`);
  }
  const damaged = (why) => refuse(`damaged safetensors header: ${why}`);
  let header;
  try {
    header = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(8, 8 + length)));
  } catch (error) {
    damaged(error.message);
  }
  const { __metadata__: meta = {}, ...infos } = header;
  const isText = (value) => typeof value === 'string';
  if (meta === null || typeof meta !== 'object' || !Object.values(meta).every(isText)) damaged('metadata is not text');
  const data = bytes.subarray(8 + length);
  const tensors = new Map();
  let end = 0;
  const start = ([, info]) => info?.data_offsets?.[0] ?? 0;
  for (const [name, info] of Object.entries(infos).sort((a, b) => start(a) - start(b) || start(a) - a[1]?.data_offsets?.[1])) {
    const { dtype, shape, data_offsets: offsets } = info ?? {};
    const whole = (list) => Array.isArray(list) && list.every((v) => Number.isSafeInteger(v) && v >= 0);
    if (!Object.hasOwn(SIZES, dtype)) damaged(`tensor \`${name}\` holds ${dtype}`);
    if (!whole(shape)) damaged(`tensor \`${name}\` has no valid shape`);
    if (!whole(offsets) || offsets.length !== 2 || offsets[0] !== end || offsets[1] < end) {
      damaged(`tensor \`${name}\` has invalid data_offsets`);
    }
    // Beyond 2^53 a product is not exact, but larger than any file.
    const size = shape.reduce((product, v) => product * v, SIZES[dtype]);
    if (offsets[1] - offsets[0] !== size) damaged(`tensor \`${name}\`: shape and data_offsets disagree`);
    end = offsets[1];
    tensors.set(name, { dtype, shape, bytes: data.subarray(offsets[0], offsets[1]) });
  }
  if (data.length < end) refuse(`truncated: the header describes ${end} bytes of tensors, the file has ${data.length}`);
  if (data.length > end) refuse(`${data.length - end} bytes after the last tensor`);
  return { meta: new Map(Object.entries(meta)), tensors };
}

/** int32 or uint32 values from bytes that need not be aligned. */
function words(bytes, Type) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  return Type.from({ length: bytes.length / 4 }, (_, i) => view.getUint32(4 * i, true));
}

/** Weight 32g + i is bit i of words b·g … b·g + b − 1: first the sign, then the index from its low bit up. */
function unpack(planes, bits, count) {
  const index = new Uint8Array(count);
  const negative = new Uint8Array(count);
  for (let i = 0; i < count; i++) {
    const group = (i >>> 5) * bits;
    negative[i] = (planes[group] >>> (i & 31)) & 1;
    for (let j = 1; j < bits; j++) index[i] |= ((planes[group + j] >>> (i & 31)) & 1) << (j - 1);
  }
  return { index, negative };
}

/** The tensors of each node, taken from `tensors`. */
function fill(nodes, tensors) {
  const take = (name, dtype, shape) => {
    const tensor = tensors.get(name) ?? refuse(`tensor \`${name}\` is missing`);
    tensors.delete(name);
    if (tensor.dtype !== dtype) refuse(`tensor \`${name}\` holds ${tensor.dtype}, but must hold ${dtype}`);
    if (tensor.shape.length !== shape.length || tensor.shape.some((v, i) => v !== shape[i])) {
      refuse(`tensor \`${name}\` has shape [${tensor.shape}], but the graph needs [${shape}]`);
    }
    return tensor.bytes;
  };
  const signed = (bytes) => new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (const { name, op, inputs, shape } of nodes) {
    const [cout, cin] = [shape.c, inputs.length ? nodes[inputs[0]].shape.c : 0];
    if (op.type === 'input') op.lut = signed(take(`${name}.lut`, 'I8', [cout, 256]));
    if (op.type === 'linear') {
      op.weight = signed(take(`${name}.weight`, 'I8', [cout, cin]));
      op.bias = words(take(`${name}.bias`, 'I32', [cout]), Int32Array);
    }
    if (op.type === 'conv') {
      const { kernel, weight } = op;
      if (weight.type === 'int8') {
        weight.values = signed(take(`${name}.weight`, 'I8', [cout, kernel, kernel, cin]));
      } else {
        const count = weightCount({ op, shape }, [nodes[inputs[0]]]);
        const bytes = take(`${name}.weight`, 'U32', [Math.ceil(count / 32) * weight.bits]);
        Object.assign(weight, unpack(words(bytes, Uint32Array), weight.bits, count));
      }
    }
  }
  for (const name of tensors.keys()) refuse(`tensor \`${name}\` is not of the graph`);
}

/** The network {info, nodes, crc32, bytes} in a file's bytes; throws a ModelError that names the field that is wrong. */
export function readModel(bytes) {
  const { meta, tensors } = readContainer(bytes);
  const get = (key) => meta.get(key) ?? refuse(`its metadata has no \`${key}\``);
  if (get('format') !== FORMAT) refuse(`format is \`${get('format')}\`, but this version reads \`${FORMAT}\``);
  const graph = get('graph');
  const nodes = readNodes(graph);
  checkStructure(nodes);
  const parts = [...tensors.keys()].sort().map((name) => tensors.get(name).bytes);
  const sum = crc32([new TextEncoder().encode(graph), ...parts]);
  if (meta.has('crc32') && meta.get('crc32') !== sum) {
    refuse(`crc32 is ${meta.get('crc32')}, but graph and tensors give ${sum}: damaged`);
  }
  fill(nodes, tensors);
  const model = { info: readText(meta, get), nodes, crc32: sum, bytes: bytes.length };
  checkModel(model);
  return model;
}
