// The page: what is loaded, which engine computes, which picture is shown.

import { ModelError } from './check.js';
import { Reference, WebGpu, measure, timed } from './engines.js';
import { MAX_FILE, readModel } from './file.js';
import { Gpu, missing } from './gpu.js';
import { Camera, listen, readPicture } from './input.js';
import { buildLayers, describeLayers, showActivations, showAll } from './layers.js';
import { loadModel, loadPlan, loadSamples } from './plan.js';
import { logitsHash } from './sums.js';
import { $, clearNotice, element, notice, paint, showAnswer, showBadge, showSizes, showSpeed } from './view.js';

const camera = new Camera();
let model = null;
let samples = null;
/** {crc32, samples, plan}: what lies beside the page, for its own network; null until it is loaded. */
let home = null;
let engines = {};
let current = 'javascript';
let chosen = false;
/** {pixels, label, text}: what is shown. */
let picture = null;
/** {engine, outputs}: what each layer made of it. */
let activations = null;

const shape = () => model.nodes[0].shape;

function facts() {
  const { model: name, method, bits, dataset, accuracy } = model.info;
  const top = accuracy ? `, ${accuracy.int_top1.toFixed(2)} % right on ${accuracy.images.toLocaleString('en')} test images` : '';
  $('facts').textContent = `${name}, ${method} at ${bits} bits, trained on ${dataset}${top}`;
}

/** Shows a network; what belonged to another one is gone: engines, samples, picture, check, notices. */
function adopt(found) {
  engines.webgpu?.gpu.device.destroy();
  model = found;
  engines = { javascript: new Reference(model) };
  current = 'javascript';
  chosen = false;
  samples = picture = activations = null;
  checks++;
  showBadge('wait', 'Self-check …');
  ['lost', 'gpu', 'run'].forEach(clearNotice);
  facts();
  const described = describeLayers(model);
  showSizes(model, described);
  buildLayers(model, described, (i) => activations && showAll(model, activations.outputs, i, activations.engine));
  $('main').hidden = false;
  offerEngines();
}

function offerEngines(text) {
  for (const radio of document.querySelectorAll('[name=engine]')) {
    radio.disabled = !engines[radio.value];
    radio.checked = radio.value === current;
  }
  if (text) $('webgpu-text').textContent = text;
  showSpeed(Object.values(engines));
}

let running = false;
let again = false;

/** Classifies the picture; while that runs, only the newest wish is kept. */
async function classify() {
  again = true;
  if (running) return;
  running = true;
  while (again && picture) {
    again = false;
    const [engine, { pixels, label }] = [engines[current], picture];
    try {
      const start = performance.now();
      const logits = await timed(engine, pixels);
      // Who changes the engine, or the network with it, asks again.
      if (engine !== engines[current]) continue;
      showAnswer(model, logits, engine, performance.now() - start, label);
      showSpeed(Object.values(engines));
      const outputs = await engine.activations(pixels);
      if (engine !== engines[current]) continue;
      activations = { engine, outputs };
      showActivations(model, outputs, engine);
    } catch (error) {
      // A lost device says so itself, a little later, and the reference takes over.
      if (engine.gpu) await Promise.race([engine.gpu.lost, new Promise((resolve) => setTimeout(resolve, 500))]);
      if (engine === engines[current] && !engine.gone) notice('run', 'error', 'The network could not be computed.', error.message);
    }
  }
  running = false;
}

function show(pixels, label, text) {
  picture = { pixels, label, text };
  paint($('seen'), pixels, shape());
  $('seen-text').textContent = text;
  const { h, w } = shape();
  $('seen').setAttribute('aria-label', `What the network sees, ${w} by ${h} pixels: ${text}`);
  for (const button of $('samples').children) button.setAttribute('aria-pressed', String(button.sample === text));
  return classify();
}

function blank() {
  const { h, w, c } = shape();
  return new Uint8Array(h * w * c);
}

function sample(i) {
  const size = samples.pixels.length / samples.images;
  const text = `Test picture ${i + 1} of ${samples.set}`;
  return show(samples.pixels.subarray(i * size, (i + 1) * size), samples.labels?.[i] ?? null, text);
}

function buildSamples() {
  $('sample-part').hidden = !samples?.labels;
  if (!samples?.labels) return;
  const size = samples.pixels.length / samples.images;
  const buttons = samples.labels.map((label, i) => {
    const canvas = element('canvas');
    paint(canvas, samples.pixels.subarray(i * size, (i + 1) * size), shape());
    const name = `Test picture ${i + 1}: ${model.info.classNames[label]}`;
    const button = element('button', { type: 'button', title: name, aria: { label: name, pressed: false } }, canvas);
    button.sample = `Test picture ${i + 1} of ${samples.set}`;
    button.addEventListener('click', () => {
      camera.stop();
      sample(i);
    });
    return button;
  });
  $('samples').replaceChildren(...buttons);
}

let checks = 0;

/** Holds every engine's logits of all samples against the native program's. Only the newest check has the last word. */
async function selfCheck() {
  const own = ++checks;
  if (!samples) return showBadge('none', 'No self-check: for this file there are no logits of the native program here');
  showBadge('wait', `Self-check: ${samples.images} images …`);
  const checked = Object.values(engines);
  for (const engine of checked) {
    const found = await engine.logits(samples.pixels).catch(() => null);
    if (own !== checks) return;
    if (engine.gone) continue;
    const hash = found && logitsHash(found);
    if (hash !== samples.logits_hash) {
      const wrong = found ? `hash ${hash}, natively ${samples.logits_hash}` : 'it gave no logits';
      return showBadge('bad', `Self-check failed: ${engine.label} differs on ${samples.images} images (${wrong})`);
    }
  }
  const names = checked.filter((e) => !e.gone).map((e) => e.label).join(' = ');
  showBadge('good', `Self-check passed: ${names} = native on ${samples.images} images, logits hash ${samples.logits_hash}`);
}

/** Opens the GPU and moves to it, unless someone has chosen already. */
async function openGpu() {
  const [mine, plan] = [model, home?.plan];
  if (plan?.plan.crc32 !== mine.crc32) return offerEngines('its shaders were written for another network');
  const progress = (done, all) => mine === model && offerEngines(done < all ? `compiling shaders, ${done} of ${all}` : 'starting …');
  offerEngines('opening …');
  try {
    const gpu = await Gpu.open(plan.plan, plan.constants, progress);
    if (mine !== model) return gpu.device.destroy();
    const engine = new WebGpu(gpu);
    engines = { webgpu: engine, javascript: engines.javascript };
    if (!chosen) current = 'webgpu';
    offerEngines(`${gpu.name}; its shaders ${plan.plan.multiplies ? 'may multiply' : 'shift and add'}`);
    clearNotice('gpu');
    gpu.lost.then(({ message }) => lost(engine, message));
  } catch (error) {
    if (mine !== model) return;
    const title = missing() ? 'WebGPU is missing.' : 'WebGPU could not be started.';
    notice('gpu', 'warn', title, `${error.message} The JavaScript reference computes instead, with the same bits.`);
    offerEngines('not there');
  }
}

function lost(engine, message) {
  engine.gone = true;
  if (engines.webgpu !== engine) return;
  engines = { javascript: engines.javascript };
  current = 'javascript';
  offerEngines('lost');
  const retry = element('button', { type: 'button' }, 'Open it again');
  retry.addEventListener('click', () => {
    clearNotice('lost');
    chosen = false;
    openGpu().then(classify).then(selfCheck);
  });
  notice('lost', 'warn', 'The GPU went away.', `${message || 'The browser gives no reason.'} The JavaScript reference goes on.`, retry);
  classify().then(selfCheck);
}

/** A file from the user: a picture, or another network. */
async function take(file) {
  clearNotice('file');
  camera.stop();
  try {
    if (!/\.safetensors$/i.test(file.name)) {
      const mine = model;
      const pixels = mine && (await readPicture(file, shape()));
      if (pixels && mine === model) await show(pixels, null, file.name);
      return;
    }
    if (file.size > MAX_FILE) throw new ModelError(`${file.size} bytes, more than the ${MAX_FILE} that are read`);
    const found = readModel(new Uint8Array(await file.arrayBuffer()));
    if (found.crc32 === model?.crc32) return notice('file', 'warn', 'Nothing changes.', `${file.name} holds the network that is shown.`);
    if (found.crc32 === home?.crc32) return await settle(found);
    const same = model && ['h', 'w', 'c'].every((k) => found.nodes[0].shape[k] === shape()[k]);
    const kept = same ? picture : null;
    adopt(found);
    buildSamples();
    await openGpu();
    await show(kept?.pixels ?? blank(), null, kept?.text ?? 'Nothing yet');
    if (found === model) await selfCheck();
  } catch (error) {
    if (error instanceof ModelError) refused(file.name, error);
    else notice('file', 'error', `${file.name} cannot be shown.`, error.message);
  }
}

function refused(name, error) {
  notice('file', 'error', `${name} is refused.`, `${error.message}. Export it again, or copy it again from its source.`);
}

function controls() {
  listen(take);
  $('engines').addEventListener('change', (event) => {
    current = event.target.value;
    chosen = true;
    classify();
  });
  $('camera').addEventListener('click', () => {
    clearNotice('file');
    camera.toggle(shape(), (pixels) => show(pixels, null, 'The camera')).catch((error) => {
      camera.stop();
      notice('file', 'error', 'There is no camera picture.', error.message);
    });
  });
  let stop = null;
  $('measure').addEventListener('click', async () => {
    if (stop) return stop();
    if (!picture) return;
    const [mine, { pixels }] = [model, picture];
    let halted = false;
    stop = () => (halted = true);
    const stopped = () => halted || mine !== model;
    $('measure').textContent = 'Stop';
    try {
      for (const engine of Object.values(engines)) {
        if (stopped()) break;
        $('measuring').textContent = `${engine.label} …`;
        await measure(engine, pixels, () => stopped() || engine.gone).catch(() => {});
        showSpeed(Object.values(engines));
      }
    } finally {
      $('measuring').textContent = '';
      $('measure').textContent = 'Measure';
      stop = null;
    }
  });
}

/** Shows the page's own network with what lies beside it. At every await another network may be dropped: then this one ends. */
async function settle(mine) {
  try {
    adopt(mine);
    home.samples ??= await loadSamples(mine);
    if (mine !== model) return;
    samples = home.samples;
    buildSamples();
    await (samples.labels ? sample(0) : show(blank(), null, 'Nothing yet'));
    if (mine !== model) return;
    home.plan ??= await loadPlan(mine);
    if (mine !== model) return;
    await openGpu();
    await classify();
    if (mine === model) await selfCheck();
  } catch (error) {
    if (mine === model) ended('What lies beside the page', error);
  }
}

function ended(name, error) {
  showBadge('bad', 'Nothing could be checked');
  if (error instanceof ModelError) refused(name, error);
  else notice('file', 'error', 'The page stopped.', error.message);
}

async function main() {
  controls();
  try {
    const mine = await loadModel();
    home = { crc32: mine.crc32, samples: null, plan: null };
    // Another network may have been dropped already.
    if (!model || model.crc32 === mine.crc32) await settle(mine);
  } catch (error) {
    if (model) return;
    $('facts').textContent = 'No network.';
    ended('model.safetensors', error);
  }
}

/** For the console, and for the page's test. */
globalThis.s3gpu = {
  get model() {
    return model;
  },
  get engines() {
    return engines;
  },
  get picture() {
    return picture;
  },
  logitsHash,
};

main();
