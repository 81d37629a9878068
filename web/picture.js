// Pictures to a network's u8 pixels [C, H, W], by the native reader's fixed-point resize and crop: scaled to cover the
// network's size by a triangle filter that widens as the picture shrinks, rows first, the centre taken, integers only.
//
// Equal to the native result from the decoded pixels on. The browser decodes: a JPEG may differ by a level, and a canvas
// keeps colours multiplied by alpha, so what lies under transparent pixels is black here.

const MAX_FILE = 64 * 2 ** 20;
const MAX_SIDE = 16384;
const MAX_BYTES = 256 * 2 ** 20;

/** Something that is no picture, or too large a one. */
export class PictureError extends Error {}

/** The decoded picture in a file, upright. */
export async function decode(blob) {
  if (blob.size > MAX_FILE) throw new PictureError(`The file has ${blob.size} bytes; up to ${MAX_FILE} are read.`);
  try {
    return await createImageBitmap(blob, { imageOrientation: 'from-image', colorSpaceConversion: 'none' });
  } catch {
    throw new PictureError('The browser cannot decode this file as a picture. JPEG, PNG and WebP work everywhere.');
  }
}

/** A network's pixels from a bitmap or a video's frame of this size. */
export function pixelsOf(source, width, height, shape) {
  if (width > MAX_SIDE || height > MAX_SIDE || width * height * 4 > MAX_BYTES) {
    throw new PictureError(`The picture has ${width} x ${height} pixels; sides up to ${MAX_SIDE} and ${MAX_BYTES / 4} pixels are read.`);
  }
  const canvas = Object.assign(document.createElement('canvas'), { width, height });
  const context = canvas.getContext('2d', { willReadFrequently: true });
  // A canvas beyond the browser's own limit swallows what is drawn, without an error: a dot in its last corner tells.
  const corner = [width - 1, height - 1, 1, 1];
  context?.fillRect(...corner);
  if (canvas.width !== width || canvas.height !== height || context?.getImageData(...corner).data[3] !== 255) {
    throw new PictureError(`The picture has ${width} x ${height} pixels, more than this browser draws; a smaller copy of it can be read.`);
  }
  context.clearRect(...corner);
  context.drawImage(source, 0, 0, width, height);
  return fit(context.getImageData(0, 0, width, height).data, height, width, shape);
}

/** RGBA bytes [h, w, 4] as planes [C, H, W] of the network's shape: grey where C is 1. */
export function fit(rgba, h, w, shape) {
  const planes = Array.from({ length: shape.c }, (_, c) => plane(rgba, h * w, shape.c === 1 ? -1 : c));
  const out = new Uint8Array(shape.c * shape.h * shape.w);
  planes.forEach((p, c) => out.set(resize(p, [h, w], [shape.h, shape.w]), c * shape.h * shape.w));
  return out;
}

function plane(rgba, size, channel) {
  const grey = (i) => Math.floor((2126 * rgba[i] + 7152 * rgba[i + 1] + 722 * rgba[i + 2]) / 10000);
  const out = new Uint8Array(size);
  for (let i = 0; i < size; i++) out[i] = channel < 0 ? grey(4 * i) : rgba[4 * i + channel];
  return out;
}

/** For every output of one axis, its first source pixel and the weights from there on. */
function filter(size, target, [a, b]) {
  const reach = 2 * Math.max(a, b);
  const clamp = (value, low, high) => Math.min(Math.max(Math.trunc(value), low), high);
  return Array.from({ length: target }, (_, i) => {
    const at = (2 * i + 1 - target) * a + size * b;
    const first = clamp((at - reach) / (2 * b), 0, size - 1);
    const end = clamp((at + reach) / (2 * b) + 1, first + 1, size);
    const weight = (_, j) => Math.max(reach - Math.abs((2 * (first + j) + 1) * b - at), 0);
    return { first, weights: Array.from({ length: end - first }, weight) };
  });
}

/** Σ weight · value over Σ weight, half up; `step` apart in `values`. All numbers stay far below 2^53. */
function mean(weights, values, first, step) {
  let [sum, weighted] = [0, 0];
  weights.forEach((weight, j) => {
    sum += weight;
    weighted += weight * values[first + j * step];
  });
  return Math.floor((2 * weighted + sum) / (2 * sum));
}

function resize(values, [h, w], [height, width]) {
  // Cover: the axis that has to shrink less decides.
  const scale = w * height >= h * width ? [h, height] : [w, width];
  const rows = new Uint8Array(h * width);
  filter(w, width, scale).forEach(({ first, weights }, x) => {
    for (let y = 0; y < h; y++) rows[y * width + x] = mean(weights, values, y * w + first, 1);
  });
  const out = new Uint8Array(height * width);
  filter(h, height, scale).forEach(({ first, weights }, y) => {
    for (let x = 0; x < width; x++) out[y * width + x] = mean(weights, rows, first * width + x, width);
  });
  return out;
}
