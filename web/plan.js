// The files beside the page, or inside of it: the model, the plan, its constants, the samples.

import { MAX_FILE, readModel } from './file.js';
import { refuse } from './check.js';

const FORMAT = 's3gpu-plan 1';

/** A file's bytes, from the page itself where it holds them, else from beside it. */
async function load(name) {
  const inside = document.getElementById(name);
  if (inside) return Uint8Array.from(atob(inside.textContent), (c) => c.charCodeAt(0));
  const answer = await fetch(name).catch((error) => refuse(`${name} cannot be fetched: ${error.message}`));
  if (!answer.ok) refuse(`${name} cannot be fetched: the server says ${answer.status} ${answer.statusText}`);
  if (Number(answer.headers.get('content-length')) > MAX_FILE) refuse(`${name} is larger than ${MAX_FILE} bytes`);
  return new Uint8Array(await answer.arrayBuffer());
}

async function loadJson(name) {
  const bytes = await load(name);
  try {
    return JSON.parse(new TextDecoder().decode(bytes));
  } catch (error) {
    return refuse(`${name}: ${error.message}`);
  }
}

/** The network that this page was written for. */
export const loadModel = async () => readModel(await load('model.safetensors'));

/** The plan for WebGPU and its constants; refused where it was written for another network. */
export async function loadPlan(model) {
  const [plan, constants] = await Promise.all([loadJson('plan.json'), load('plan.bin')]);
  if (plan.format !== FORMAT) refuse(`plan.json: format is \`${plan.format}\`, but this page reads \`${FORMAT}\``);
  if (plan.crc32 !== model.crc32) refuse(`plan.json was written for the network ${plan.crc32}, but model.safetensors is ${model.crc32}`);
  if (constants.length !== plan.constants) refuse(`plan.bin has ${constants.length} bytes, but must have ${plan.constants}`);
  return { plan, constants };
}

/** Images {pixels, labels, set, logits, hash}: labels is null where they are no pictures. */
export async function loadSamples(model) {
  const [samples, pixels] = await Promise.all([loadJson('samples.json'), load('samples.bin')]);
  const { h, w, c } = model.nodes[0].shape;
  if (pixels.length !== samples.images * h * w * c) refuse(`samples.bin has ${pixels.length} bytes, but must have ${samples.images * h * w * c}`);
  return { ...samples, pixels };
}
