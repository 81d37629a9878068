// The metadata's JSON as objects: every field there, of its type and range, and none besides.

import { refuse } from './check.js';

const integer = (low, high) => (value, field) =>
  Number.isInteger(value) && value >= low && value <= high
    ? value
    : refuse(`graph: ${field} is ${JSON.stringify(value)}, but must be an integer between ${low} and ${high}`);
const u8 = integer(0, 255);
const u32 = integer(0, 2 ** 32 - 1);
const i32 = integer(-(2 ** 31), 2 ** 31 - 1);
const index = integer(0, Number.MAX_SAFE_INTEGER);
const number = (value, field) =>
  typeof value === 'number' ? value : refuse(`graph: ${field} is ${JSON.stringify(value)}, but must be a number`);
const text = (value, field) =>
  typeof value === 'string' ? value : refuse(`graph: ${field} is ${JSON.stringify(value)}, but must be text`);
const optional = (reader) => (value, field) => (value === null ? null : reader(value, field));
const list = (reader) => (value, field) =>
  Array.isArray(value)
    ? value.map((item, i) => reader(item, `${field}[${i}]`))
    : refuse(`graph: ${field} is ${JSON.stringify(value)}, but must be a list`);
const oneOf = (names) => (value, field) =>
  names.includes(value) ? value : refuse(`graph: ${field} is ${JSON.stringify(value)}, but must be one of ${names.join(', ')}`);

/** An object with exactly these fields. */
const object = (readers) => (value, field) => {
  if (value === null || typeof value !== 'object' || Array.isArray(value)) refuse(`graph: ${field} must be an object`);
  for (const key of Object.keys(value)) if (!Object.hasOwn(readers, key)) refuse(`graph: ${field} has an unknown field \`${key}\``);
  return Object.fromEntries(
    Object.entries(readers).map(([key, reader]) => [
      key,
      Object.hasOwn(value, key) ? reader(value[key], `${field}.${key}`) : refuse(`graph: ${field} has no \`${key}\``),
    ]),
  );
};

/** {name: {fields}} or, for a variant without fields, "name"; becomes {type: name, …fields}. */
const variant = (variants) => (value, field) => {
  const entries = typeof value === 'string' ? [[value, null]] : Object.entries(value ?? {});
  const [[type, fields]] = entries.length === 1 ? entries : refuse(`graph: ${field} must name one variant`);
  if (!Object.hasOwn(variants, type)) refuse(`graph: ${field} is the unknown variant \`${type}\``);
  const reader = variants[type];
  if (!reader !== (fields === null)) refuse(`graph: ${field}: \`${type}\` has the wrong form`);
  return { type, ...(reader ? reader(fields, `${field}.${type}`) : {}) };
};

const WEIGHT = variant({
  int8: object({}),
  shift: object({ bits: u32, table: list(optional(u8)), exponent: i32 }),
});
const NODES = list(
  object({
    name: text,
    inputs: list(index),
    shape: object({ h: u32, w: u32, c: u32 }),
    kind: oneOf(['i8', 'u8', 'i32']),
    exponent: i32,
    op: variant({
      input: object({}),
      conv: object({
        kernel: u32,
        stride: u32,
        pad: u32,
        weight: WEIGHT,
        preshift: u32,
        multiplier: list(i32),
        bias: list(i32),
        shift: list(u32),
      }),
      add: null,
      pad_shortcut: object({ stride: u32 }),
      max_pool: object({ kernel: u32, stride: u32, pad: u32 }),
      global_sum: object({ preshift: u32 }),
      linear: object({ scale: number }),
    }),
  }),
);

function parse(key, json) {
  try {
    return JSON.parse(json);
  } catch (error) {
    return refuse(`${key}: ${error.message}`);
  }
}

/** The graph's nodes, their tensors still missing. */
export const readNodes = (json) => NODES(parse('graph', json), 'nodes');

/** Names, origins and the accuracy at export. */
export function readText(meta, get) {
  const whole = (key, high) => {
    const value = parse(key, get(key));
    return Number.isInteger(value) && value >= 0 && value <= high ? value : refuse(`${key} is not a whole number up to ${high}`);
  };
  const floats = (key) => {
    const values = get(key).split(',').map((v) => (/^[-+.\deE]+$/.test(v) ? Number(v) : NaN));
    return values.every(Number.isFinite) ? values : refuse(`${key} is not a comma-separated list of numbers`);
  };
  const plain = (key) => (/\p{Cc}/u.test(get(key)) ? refuse(`${key} holds a control character`) : get(key));
  const names = parse('class_names', get('class_names'));
  if (!Array.isArray(names) || !names.every((n) => typeof n === 'string')) refuse('class_names is not a list of names');
  let accuracy = null;
  if (meta.has('accuracy')) {
    accuracy = parse('accuracy', meta.get('accuracy'));
    for (const key of ['images', 'float_top1', 'int_top1', 'agreement']) {
      if (typeof accuracy?.[key] !== 'number') refuse(`accuracy has no number \`${key}\``);
    }
  }
  return {
    model: plain('model'),
    method: plain('method'),
    bits: whole('bits', 2 ** 32 - 1),
    dataset: plain('dataset'),
    classNames: names,
    mean: floats('mean'),
    std: floats('std'),
    step: whole('step', Number.MAX_SAFE_INTEGER),
    epoch: whole('epoch', Number.MAX_SAFE_INTEGER),
    terms: whole('terms', 2 ** 32 - 1),
    calibration: whole('calibration', Number.MAX_SAFE_INTEGER),
    accuracy,
  };
}
