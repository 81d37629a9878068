// The look inside: each layer's bits, zeros and bytes, and its activations as small pictures.

import { $, bytesText, element, percent } from './view.js';

/** Each node's weights: how many, zeros, bits a weight, bytes here and as fp32 with the biases that a folded batch norm leaves. */
export function describeLayers({ nodes }) {
  return nodes.map(({ op, shape }) => {
    const none = { weights: 0, zeros: 0, bits: null, bytes: 0, floatBytes: 0 };
    if (op.type === 'linear') {
      const weights = op.weight.length;
      const zeros = op.weight.filter((w) => w === 0).length;
      return { weights, zeros, bits: 8, bytes: weights + 4 * shape.c, floatBytes: 4 * (weights + shape.c) };
    }
    if (op.type !== 'conv') return none;
    const { weight } = op;
    if (weight.type === 'int8') {
      const weights = weight.values.length;
      return { weights, zeros: weight.values.filter((w) => w === 0).length, bits: 8, bytes: weights, floatBytes: 4 * (weights + shape.c) };
    }
    const weights = weight.index.length;
    const zeros = weight.index.filter((i) => weight.table[i] === null).length;
    return { weights, zeros, bits: weight.bits, bytes: 4 * weight.bits * Math.ceil(weights / 32), floatBytes: 4 * (weights + shape.c) };
  });
}

const KINDS = { input: 'pixels through a table', conv: 'convolution', add: 'addition', pad_shortcut: 'shortcut', max_pool: 'max pool', global_sum: 'sum over pixels', linear: 'classifier' };

function operation({ op }) {
  if (op.type !== 'conv') return KINDS[op.type];
  const { kernel, stride, weight } = op;
  const what = weight.type === 'shift' ? 'shift convolution' : 'convolution, int8 as digits';
  return `${kernel}×${kernel} ${what}${stride > 1 ? `, stride ${stride}` : ''}`;
}

/** Fills the table; `show(i)` is asked for all of a layer's channels when it is opened. */
export function buildLayers(model, described, show) {
  const rows = model.nodes.flatMap((node, i) => {
    const { weights, zeros, bits, bytes, floatBytes } = described[i];
    const { h, w, c } = node.shape;
    const id = `all-${i}`;
    const name = element('button', { type: 'button', className: 'name', aria: { expanded: false, controls: id } }, node.name);
    const canvas = element('canvas', { width: 1, height: 1 });
    canvas.setAttribute('role', 'img');
    canvas.setAttribute('aria-label', `Activations of ${node.name}`);
    const numbers = weights ? [bits, percent(zeros / weights), bytesText(bytes), bytesText(floatBytes)] : ['', '', '', ''];
    const cell = (text, k) => element('td', { className: 'number', data: { label: ['Bits', 'Zeros', 'Bytes', 'fp32'][k] } }, String(text));
    const row = element(
      'tr',
      {},
      element('th', { scope: 'row' }, name, element('small', {}, operation(node))),
      element('td', { className: 'shape' }, h * w > 1 ? `${h}×${w}×${c}` : `${c}`),
      ...numbers.map(cell),
      element('td', { className: 'strip' }, canvas),
    );
    const all = element('tr', { id, className: 'all', hidden: true }, element('td', { colSpan: 7 }));
    name.addEventListener('click', () => {
      all.hidden = !all.hidden;
      name.setAttribute('aria-expanded', String(!all.hidden));
      if (!all.hidden) show(i);
    });
    return [row, all];
  });
  $('layers').tBodies[0].replaceChildren(...rows);
}

/** Blue below 0, dark at 0, yellow above: [r, g, b] for −1 … 1. */
function colour(value) {
  const end = value < 0 ? [90, 180, 255] : [255, 209, 102];
  return end.map((v, k) => Math.round([20, 22, 31][k] + (v - [20, 22, 31][k]) * Math.abs(value)));
}

/** Channels first … first + count of an activation [C, H, W], `columns` side by side, a pixel apart. */
function drawMaps(canvas, values, { h, w, c }, count, columns) {
  const shown = Math.min(count, c);
  const rows = Math.ceil(shown / columns);
  // Vectors stand in one row of squares.
  const gap = h * w > 1 ? 1 : 0;
  Object.assign(canvas, { width: columns * (w + gap) - gap, height: rows * (h + gap) - gap });
  const image = new ImageData(canvas.width, canvas.height);
  let largest = 1;
  for (const value of values) largest = Math.max(largest, Math.abs(value));
  for (let k = 0; k < shown; k++) {
    const left = (k % columns) * (w + gap);
    const top = Math.floor(k / columns) * (h + gap);
    for (let i = 0; i < h * w; i++) {
      const at = 4 * ((top + Math.floor(i / w)) * canvas.width + left + (i % w));
      image.data.set([...colour(values[k * h * w + i] / largest), 255], at);
    }
  }
  canvas.getContext('2d').putImageData(image, 0, 0);
  return largest;
}

/** Shows one image's activations: a strip for each layer, all channels where a layer is open. `engine` computed them. */
export function showActivations(model, activations, engine) {
  const rows = $('layers').tBodies[0].rows;
  model.nodes.forEach((node, i) => {
    const { h, w, c } = node.shape;
    const count = h * w > 1 ? Math.min(c, 12) : c;
    const strip = rows[2 * i].querySelector('.strip canvas');
    drawMaps(strip, activations[i], node.shape, count, count);
    // Maps of any size get one height; a vector's entries a height and a width.
    strip.style.width = h * w > 1 ? `${Math.round((count * 36 * w) / h)}px` : '100%';
    strip.style.height = h * w > 1 ? 'auto' : '14px';
    if (!rows[2 * i + 1].hidden) showAll(model, activations, i, engine);
  });
}

/** All channels of a layer, below its row. */
export function showAll(model, activations, i, engine) {
  const node = model.nodes[i];
  const { h, w, c } = node.shape;
  const cell = $('layers').tBodies[0].rows[2 * i + 1].cells[0];
  const canvas = element('canvas');
  const columns = h * w > 1 ? Math.min(c, Math.max(4, Math.ceil(Math.sqrt(c * 2)))) : Math.min(c, 64);
  const largest = drawMaps(canvas, activations[i], node.shape, c, columns);
  canvas.setAttribute('role', 'img');
  canvas.setAttribute('aria-label', `All ${c} channels of ${node.name}`);
  const zero = activations[i].filter((v) => v === 0).length / activations[i].length;
  const size = `${c} channels of ${h}×${w}, ${node.kind}, computed by ${engine.kernel(node.name)}. One unit is 2`;
  const rest = `; the largest magnitude is ${largest.toLocaleString('en')}, ${percent(zero)} are 0.`;
  const words = [size, element('sup', {}, String(node.exponent).replace('-', '−')), rest];
  cell.replaceChildren(element('p', { className: 'quiet' }, ...words), canvas);
}
