// Small parts of the page: elements, the answer, the speed and size tables, the badge, notices.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; text becomes text, never markup. */
export function element(name, properties = {}, ...children) {
  const { data, aria, ...rest } = properties;
  const made = Object.assign(document.createElement(name), rest);
  for (const [key, value] of Object.entries(data ?? {})) made.dataset[key] = value;
  for (const [key, value] of Object.entries(aria ?? {})) made.setAttribute(`aria-${key}`, value);
  made.append(...children);
  return made;
}

export const percent = (share) => `${(100 * share).toFixed(1)} %`;

export function bytesText(n) {
  if (n < 1024) return `${n} B`;
  return n < 1024 ** 2 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / 1024 ** 2).toFixed(1)} MiB`;
}

const msText = (ms) => (ms === null ? '–' : `${ms < 10 ? ms.toFixed(2) : ms.toFixed(ms < 100 ? 1 : 0)} ms`);

/** Writes u8 planes [C, H, W] to a canvas, pixel by pixel; grey where there is one channel. */
export function paint(canvas, pixels, { h, w, c }) {
  const image = new ImageData(w, h);
  for (let i = 0; i < h * w; i++) {
    for (let k = 0; k < 3; k++) image.data[4 * i + k] = pixels[(c === 1 ? 0 : Math.min(k, c - 1)) * h * w + i];
    image.data[4 * i + 3] = 255;
  }
  Object.assign(canvas, { width: w, height: h }).getContext('2d').putImageData(image, 0, 0);
}

/** Probabilities: floats at the end of the way, for people. */
function softmax(logits, scale) {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const terms = Array.from(logits, (l) => Math.exp((l - largest) * scale));
  const sum = terms.reduce((a, b) => a + b);
  return terms.map((t) => t / sum);
}

/** The five likeliest classes as bars, and the first as the answer. */
export function showAnswer(model, logits, engine, ms, label) {
  const names = model.info.classNames;
  const shares = softmax(logits, model.nodes.at(-1).op.scale);
  // Stable: of equal logits the first class comes first.
  const order = Array.from(logits.keys()).sort((a, b) => logits[b] - logits[a]).slice(0, 5);
  $('answer').textContent = names[order[0]];
  const right = label === order[0];
  $('truth').textContent = label === null ? 'A picture without a label.' : right ? '✓ So does its label.' : `✗ Its label says ${names[label]}.`;
  while ($('bars').children.length > order.length) $('bars').lastChild.remove();
  order.forEach((c, i) => {
    const bar = $('bars').children[i] ?? $('bars').appendChild(newBar());
    const [name, track, value] = bar.children;
    name.textContent = name.title = names[c];
    track.firstChild.style.width = `${100 * shares[c]}%`;
    value.textContent = percent(shares[c]);
    value.title = `logit ${logits[c]}`;
  });
  $('status').textContent = `${names[order[0]]}, ${percent(shares[order[0]])}, by ${engine.label} in ${msText(ms)}`;
}

function newBar() {
  const track = element('span', { className: 'track', aria: { hidden: true } }, element('div', { className: 'fill' }));
  return element('li', {}, element('span', { className: 'name' }), track, element('span', { className: 'value' }));
}

/** A row an engine: first run, median, 90th percentile, images a second. */
export function showSpeed(engines) {
  const row = ({ label, clock }) => {
    const rate = clock.imagesPerSecond;
    const cells = [clock.first, clock.share(0.5), clock.share(0.9)].map(msText);
    cells.push(rate === null ? '–' : rate < 10 ? rate.toFixed(1) : Math.round(rate).toLocaleString('en'));
    return element('tr', {}, element('th', { scope: 'row' }, label), ...cells.map((text) => element('td', {}, text)));
  };
  $('speed').tBodies[0].replaceChildren(...engines.map(row));
}

/** The network's weights beside what they would take as fp32. */
export function showSizes(model, layers) {
  const sum = (key) => layers.reduce((total, layer) => total + layer[key], 0);
  const [own, float] = [sum('bytes'), sum('floatBytes')];
  const line = (name, bytes, className) => {
    const fill = element('div', { className: 'fill' });
    fill.style.width = `${(100 * bytes) / float}%`;
    const track = element('span', { className: 'track', aria: { hidden: true } }, fill);
    return element('div', { className }, element('span', {}, name), track, element('span', { className: 'value' }, bytesText(bytes)));
  };
  const zeros = percent(sum('zeros') / sum('weights'));
  const words = `${(float / own).toFixed(1)} times smaller: ${sum('weights').toLocaleString('en')} weights, of which ${zeros} are zero. `
    + `The whole file, with graph, names and biases, has ${bytesText(model.bytes)}.`;
  $('sizes').replaceChildren(
    line('As fp32', float, ''),
    line('Here', own, 'own'),
    element('p', { className: 'sum quiet' }, words),
  );
}

/** state: wait, good, bad or none. */
export function showBadge(state, text) {
  $('badge').dataset.state = state;
  $('badge-text').textContent = text;
}

/** A message above everything else; another one of the same name replaces it. kind: error or warn. */
export function notice(name, kind, title, text, ...actions) {
  document.querySelector(`.notice[data-name="${name}"]`)?.remove();
  const words = element('div', {}, element('b', {}, title), element('span', {}, text));
  const made = element('div', { className: 'notice', data: { kind, name } }, words, ...actions);
  if (kind === 'error') made.setAttribute('role', 'alert');
  $('notices').append(made);
}

export const clearNotice = (name) => document.querySelector(`.notice[data-name="${name}"]`)?.remove();
