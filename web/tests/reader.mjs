// The page's model reader and reference in Node: every field is checked and named, as in tests/integer.rs.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { MODEL } from './browser.mjs';
import { digits } from '../digits.js';
import { readModel } from '../file.js';
import { fit } from '../picture.js';
import { crc32, logitsHash } from '../sums.js';

const whole = new Uint8Array(readFileSync(MODEL));

/** The file's parts. */
function open() {
  const length = Number(new DataView(whole.buffer, whole.byteOffset).getBigUint64(0, true));
  const { __metadata__: meta, ...tensors } = JSON.parse(Buffer.from(whole.subarray(8, 8 + length)).toString());
  return { meta, tensors, data: whole.subarray(8 + length) };
}

function close({ meta, tensors, data }) {
  const header = Buffer.from(JSON.stringify({ __metadata__: meta, ...tensors }));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  return new Uint8Array(Buffer.concat([prefix, header, data]));
}

/** A file with one text of its metadata changed; without its sum, so that the field itself is looked at. */
function changed(key, from, to) {
  const file = open();
  delete file.meta.crc32;
  assert(file.meta[key].includes(from), `${key} has no ${from}`);
  file.meta[key] = file.meta[key].replace(from, to);
  return close(file);
}

function refused(bytes, ...words) {
  assert.throws(() => readModel(bytes), (error) => {
    assert.equal(error.constructor.name, 'ModelError', `${words}: ${error.stack}`);
    for (const word of words) assert(error.message.includes(word), `${word} is not in: ${error.message}`);
    return true;
  });
}

test('sums, digits and the resize by hand', () => {
  assert.equal(crc32([Buffer.from('1234'), Buffer.from('56789')]), 'cbf43926');
  assert.equal(logitsHash([]), 'cbf29ce484222325');
  assert.equal(logitsHash([Buffer.from('abcd').readInt32LE()]), 'fc179f83ee0724dd');
  for (const value of [-(2 ** 31), -255, -7, -1, 0, 1, 6, 7, 171, 255, 2 ** 31 - 1]) {
    const sum = digits(value).reduce((s, d) => s + (d.negative ? -1 : 1) * 2 ** d.shift, 0);
    assert.equal(sum, value);
    assert(digits(value).every((d, i, all) => i === 0 || d.shift >= all[i - 1].shift + 2));
  }
  const rgba = (greys) => greys.flatMap((v) => [v, v, v, 255]);
  // As in src/int/picture.rs.
  assert.deepEqual([...fit(rgba([10, 20, 30, 40, 10, 20, 30, 40]), 2, 4, { h: 1, w: 2, c: 1 })], [17, 33]);
  assert.deepEqual([...fit(rgba([10, 20]), 1, 2, { h: 2, w: 4, c: 1 })], [10, 13, 18, 20, 10, 13, 18, 20]);
  assert.deepEqual([...fit(rgba([0, 0, 7, 7, 0, 0, 0, 0, 7, 7, 0, 0]), 2, 6, { h: 2, w: 2, c: 1 })], [7, 7, 7, 7]);
});

test('the kept network is read', () => {
  const { info, nodes, crc32: sum } = readModel(whole);
  assert.deepEqual([info.model, info.method, info.bits, nodes.length, sum], ['resnet8', 's3', 3, 15, '6a2d13ea']);
  assert.deepEqual(readModel(close(open())).nodes, nodes);
});

test('every field is checked and named', () => {
  const cases = [
    ['format', 's3gpu-int 1', 's3gpu-int 2', 'format', 's3gpu-int 2'],
    ['bits', '3', '99999999999', 'bits'],
    ['mean', '0.', 'x.', 'mean'],
    ['std', ',', ',inf,', 'std'],
    ['class_names', '"disc",', '', 'class_names', '9'],
    ['class_names', 'disc', 'di\\u001bsc', 'class_names', 'control'],
    ['accuracy', 'images', 'image', 'accuracy', 'image'],
    ['graph', '[', '{', 'graph'],
    ['graph', '"name":"conv1"', '"name":"../conv1"', 'graph.nodes[1]', 'name'],
    ['graph', '"name":"conv1"', '"name":"input"', 'graph.nodes[1]', 'name'],
    ['graph', '"inputs":[0]', '"inputs":[3]', 'graph.nodes[1]', 'inputs', 'order'],
    ['graph', '"inputs":[0]', '"inputs":[0,0]', 'graph.nodes[1]', 'inputs'],
    ['graph', '"h":32', '"h":4294967295', 'graph.nodes[0]', 'shape.h'],
    ['graph', '"h":32', '"h":-1', 'graph'],
    ['graph', '"h":32', '"h":1e999', 'graph', 'h'],
    ['graph', '"c":3}', '"c":4}', 'input.lut', 'shape'],
    ['graph', '"c":16}', '"c":17}', 'graph.nodes[1]', 'multiplier'],
    ['graph', '"kernel":3', '"kernel":5', 'graph.nodes[1]', 'shape'],
    ['graph', '"kernel":3', '"kernel":0', 'graph.nodes[1]', 'kernel'],
    ['graph', '"kernel":3', '"kernel":2.5', 'graph', 'kernel'],
    ['graph', '"pad":1', '"pad":3', 'graph.nodes[1]', 'pad'],
    ['graph', '"stride":1', '"stride":0', 'graph.nodes[1]', 'stride'],
    ['graph', '"preshift":0', '"preshift":31', 'graph.nodes[1]', 'preshift'],
    ['graph', '"exponent":-', '"exponent":-9', 'exponent', '-64'],
    ['graph', '"kind":"u8"', '"kind":"i32"', 'graph.nodes[1]', 'kind'],
    ['graph', '"kind":"u8"', '"kind":"f32"', 'graph', 'f32'],
    ['graph', '"multiplier":[', '"multiplier":[256,', 'graph.nodes[1]', 'multiplier'],
    ['graph', '"bias":[', '"bias":[2147483647,', 'graph.nodes[1]', 'bias'],
    ['graph', '"shift":[', '"shift":[40,', 'graph.nodes[1]', 'shift'],
    ['graph', '"bits":3', '"bits":40', 'bits'],
    ['graph', '"table":[null', '"table":[31', 'table'],
    ['graph', '"table":[null,', '"table":[', 'table'],
    ['graph', '"scale":', '"scale":-', 'scale'],
    ['graph', '"op":"add"', '"op":"subtract"', 'graph', 'subtract'],
    ['graph', '"op":"add"', '"op":"conv"', 'graph', 'conv'],
    ['graph', '"op":', '"extra":1,"op":', 'graph', 'extra'],
  ];
  for (const [key, from, to, ...words] of cases) refused(changed(key, from, to), ...words);
  for (const key of ['format', 'model', 'graph', 'class_names', 'terms']) {
    const file = open();
    delete file.meta[key];
    refused(close(file), 'metadata has no', key);
  }
});

test('products that grow beyond bounds are refused by name', () => {
  // As in tests/integer_files.rs: the graph of one convolution, with no tensors at all.
  const node = (name, inputs, [h, w, c], kind, op) => ({ name, inputs, shape: { h, w, c }, kind, exponent: 0, op });
  const graph = (input, out, [kernel, stride, pad]) => {
    const each = (value) => Array(out[2]).fill(value);
    const weight = { shift: { bits: 3, table: [null, 0, 1, 2], exponent: 0 } };
    const conv = { kernel, stride, pad, weight, preshift: 0, multiplier: each(3), bias: each(0), shift: each(8) };
    const { meta } = open();
    delete meta.crc32;
    meta.graph = JSON.stringify([node('input', [], input, 'i8', { input: {} }), node('conv', [0], out, 'u8', { conv })]);
    return close({ meta, tensors: {}, data: Buffer.alloc(0) });
  };
  refused(graph([1, 1, 65_536], [31, 31, 16], [31, 1, 30]), 'graph.nodes[1]', "the product of its padded input's shape");
  refused(graph([1, 1, 65_536], [1, 1, 16], [31, 1, 15]), 'graph.nodes[1]', 'the number of weights up to here');
});

test('sums that could overflow are refused', () => {
  const bias = open();
  delete bias.meta.crc32;
  const graph = JSON.parse(bias.meta.graph);
  graph[1].op.conv.bias[3] = 2 ** 31 - 1;
  bias.meta.graph = JSON.stringify(graph);
  refused(close(bias), 'graph.nodes[1]', 'channel 3', 'multiplier');
  refused(changed('graph', '"table":[null,0,', '"table":[null,30,'), 'graph.nodes[2]', 'largest sum');
});

test('tensors must be those of the graph', () => {
  const name = 'layer1.0.conv2.weight';
  const without = (change) => {
    const file = open();
    delete file.meta.crc32;
    change(file.tensors);
    return close(file);
  };
  refused(without((t) => (t[name].dtype = 'F32')), name, 'F32');
  refused(without((t) => (t[name].dtype = 'X9')), name, 'X9');
  refused(without((t) => (t[name].shape = [2 ** 40, 2 ** 40])), name, 'shape');
  refused(without((t) => (t[name].shape = [216, 1])), name, 'shape [216,1]');
  refused(without((t) => (t[name].data_offsets[1] += 4)), 'header');
  refused(without((t) => (t[name].data_offsets = [-8, 4])), name, 'data_offsets');
  refused(without((t) => ((t.more = t[name]), delete t[name])), name, 'missing');
  refused(without((t) => (t.more = { dtype: 'I8', shape: [0], data_offsets: [36760, 36760] })), 'more');
});

test('damaged files are refused, whatever is damaged', () => {
  for (const length of [0, 5, 8, 9, 100, 5000, whole.length - 1]) refused(whole.subarray(0, length));
  refused(new Uint8Array([...whole, 0]), '1 bytes after the last tensor');
  const huge = whole.slice();
  huge.fill(255, 0, 8);
  refused(huge, 'safetensors');
  // The sum sees a changed bit of the graph or the tensors; elsewhere a reader that does not refuse must not throw anything else.
  for (let i = 0; i < 400; i++) {
    const flipped = whole.slice();
    const at = (i * 7919) % whole.length;
    flipped[at] ^= 1 << (i % 8);
    try {
      readModel(flipped);
    } catch (error) {
      assert.equal(error.constructor.name, 'ModelError', `byte ${at}: ${error.stack}`);
    }
  }
  const flipped = whole.slice();
  flipped[whole.length - 100] ^= 4;
  refused(flipped, 'crc32', 'damaged');
});
