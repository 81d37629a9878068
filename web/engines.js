// The two ways to compute a network here, with the same face: `logits(pixels)` of any number of images, `activations(pixels)`
// of one. Each keeps how long its runs took.

import { forward } from './reference.js';

/** Lets the page draw and listen. */
const breath = () => new Promise((resolve) => setTimeout(resolve));

/** The JavaScript reference. It pauses between layers now and then, so that the page stays alive. */
export class Reference {
  constructor(model) {
    this.model = model;
    this.label = 'JavaScript reference';
    this.clock = new Clock();
    this.batch = 1;
  }

  /** What computes a layer. */
  kernel() {
    return 'JavaScript';
  }

  async *steps(image) {
    let since = performance.now();
    for (const step of forward(this.model, image)) {
      yield step;
      if (performance.now() - since > 50) {
        await breath();
        since = performance.now();
      }
    }
  }

  async logits(pixels) {
    const { nodes } = this.model;
    const [{ h, w, c }, classes] = [nodes[0].shape, nodes.at(-1).shape.c];
    const out = new Int32Array((pixels.length / (h * w * c)) * classes);
    for (let i = 0; i * h * w * c < pixels.length; i++) {
      for await (const [node, output] of this.steps(pixels.subarray(i * h * w * c, (i + 1) * h * w * c))) {
        if (node === nodes.length - 1) out.set(output, i * classes);
      }
    }
    return out;
  }

  async activations(pixels) {
    const outputs = [];
    for await (const [, output] of this.steps(pixels)) outputs.push(output);
    return outputs;
  }
}

/** The GPU, opened. */
export class WebGpu {
  constructor(gpu) {
    this.gpu = gpu;
    this.label = 'WebGPU';
    this.clock = new Clock();
    this.batch = gpu.plan.batch;
  }

  kernel(node) {
    const { passes, pipelines } = this.gpu.plan;
    return pipelines[passes[0].dispatches.find((d) => d.node === node).pipeline].name;
  }

  logits(pixels) {
    return this.gpu.logits(pixels);
  }

  activations(pixels) {
    return this.gpu.activations(pixels);
  }
}

/** Milliseconds of an engine's runs on one image; the first stands apart, since it pays for what later runs find ready. */
export class Clock {
  first = null;
  times = [];
  imagesPerSecond = null;

  add(milliseconds) {
    if (this.first === null) this.first = milliseconds;
    else this.times.push(milliseconds);
    if (this.times.length > 500) this.times.shift();
  }

  /** The time that so many of the later runs stayed within. */
  share(part) {
    const sorted = this.times.toSorted((a, b) => a - b);
    return sorted[Math.max(Math.ceil(part * sorted.length) - 1, 0)] ?? null;
  }
}

/** One image's logits, timed. */
export async function timed(engine, pixels) {
  const start = performance.now();
  const logits = await engine.logits(pixels);
  engine.clock.add(performance.now() - start);
  return logits;
}

/** A second of single images, then a second of batches; `stopped()` ends it early. */
export async function measure(engine, pixels, stopped) {
  const batch = new Uint8Array(engine.batch * pixels.length);
  for (let i = 0; i < engine.batch; i++) batch.set(pixels, i * pixels.length);
  for (let end = performance.now() + 1000, runs = 0; (performance.now() < end || runs < 5) && !stopped(); runs++) {
    await timed(engine, pixels);
    await breath();
  }
  const start = performance.now();
  let images = 0;
  for (; performance.now() < start + 1000 && !stopped(); images += engine.batch) await engine.logits(batch);
  if (images) engine.clock.imagesPerSecond = (1000 * images) / (performance.now() - start);
}
