// Runs the plan that the exporter wrote, by WebGPU: its buffers, its shaders, its dispatches. Nothing is planned here.

/** What keeps WebGPU from being used here, or null. */
export function missing() {
  if (navigator.gpu) return null;
  if (!isSecureContext) return 'WebGPU is only there on pages from https:// or localhost; this one came over plain http.';
  return 'This browser has no WebGPU (navigator.gpu is not there). Chrome, Edge, Safari 26 and Firefox 141 or newer have it.';
}

function describe(adapter) {
  const { vendor, architecture, device, description } = adapter.info ?? {};
  const words = [description || device, vendor, architecture].filter(Boolean);
  return [...new Set(words)].join(', ') || 'an adapter without a name';
}

/** A network on a GPU: `await Gpu.open(plan, constants, progress)`. */
export class Gpu {
  static async open(plan, constants, progress) {
    const why = missing();
    if (why) throw new Error(why);
    const adapter = await navigator.gpu.requestAdapter({ powerPreference: 'high-performance' });
    if (!adapter) throw new Error('The browser has WebGPU, but found no adapter for it: no GPU driver that it trusts, or WebGPU is switched off.');
    const device = await adapter.requestDevice();
    const gpu = new Gpu();
    Object.assign(gpu, { plan, device, name: describe(adapter), lost: device.lost, busy: Promise.resolve() });
    try {
      await gpu.prepare(constants, progress);
    } catch (error) {
      // Nobody else holds the device and its buffers.
      device.destroy();
      throw error;
    }
    return gpu;
  }

  async prepare(constants, progress) {
    const { device, plan } = this;
    device.pushErrorScope('out-of-memory');
    device.pushErrorScope('validation');
    this.buffers = plan.buffers.map((buffer) => this.allocate(buffer, constants));
    await this.compile(progress);
    this.passes = plan.passes.map((pass) => this.bind(pass, constants));
    this.staging = this.buffer(plan.staging, GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST);
    for (const error of [await device.popErrorScope(), await device.popErrorScope()]) if (error) throw new Error(error.message);
  }

  buffer(size, usage) {
    return this.device.createBuffer({ size, usage });
  }

  allocate({ name, bytes, data }, constants) {
    const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_DST | GPUBufferUsage.COPY_SRC;
    const buffer = this.device.createBuffer({ label: name, size: bytes, usage });
    if (data) this.device.queue.writeBuffer(buffer, 0, constants, data[0], data[1]);
    return buffer;
  }

  /** Compiles all pipelines at the same time; `progress(done, all)` hears of each. */
  async compile(progress) {
    const { device, plan } = this;
    let done = 0;
    progress?.(done, plan.pipelines.length);
    const one = async ({ name, code, bindings }) => {
      const module = device.createShaderModule({ label: name, code });
      const types = ['uniform', ...bindings.map((access) => (access === 'read' ? 'read-only-storage' : 'storage'))];
      const entries = types.map((type, binding) => ({ binding, visibility: GPUShaderStage.COMPUTE, buffer: { type } }));
      const layout = device.createBindGroupLayout({ label: name, entries });
      const pipeline = await device.createComputePipelineAsync({
        label: name,
        layout: device.createPipelineLayout({ bindGroupLayouts: [layout] }),
        compute: { module, entryPoint: name },
      });
      progress?.(++done, plan.pipelines.length);
      return { pipeline, layout };
    };
    this.pipelines = await Promise.all(plan.pipelines.map(one));
  }

  /** The bind groups of a pass; its parameters lie in one uniform buffer. */
  bind({ images, uniforms: [offset, length], dispatches }, constants) {
    const uniform = this.buffer(length, GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST);
    this.device.queue.writeBuffer(uniform, 0, constants, offset, length);
    const steps = dispatches.map(({ pipeline, params: [at, size], buffers, groups }) => {
      const resources = [{ buffer: uniform, offset: at, size }, ...buffers.map((b) => ({ buffer: this.buffers[b] }))];
      const entries = resources.map((resource, binding) => ({ binding, resource }));
      const group = this.device.createBindGroup({ layout: this.pipelines[pipeline].layout, entries });
      return { pipeline: this.pipelines[pipeline].pipeline, group, groups };
    });
    return { images, steps };
  }

  /** Logits of u8 images [C, H, W], one behind the other, in batches as large as the plan's. */
  async logits(pixels) {
    const { plan } = this;
    const count = pixels.length / plan.image;
    const out = new Int32Array(count * plan.classes);
    for (let first = 0; first < count; ) {
      // The plan has passes for one image and for a batch; a batch's unused places hold what was there before.
      const pass = this.passes.find((p) => p.images >= count - first) ?? this.passes.at(-1);
      const n = Math.min(pass.images, count - first);
      const result = await this.turn(() => this.pass(pass, pixels.subarray(first * plan.image, (first + n) * plan.image)));
      out.set(result.subarray(0, n * plan.classes), first * plan.classes);
      first += n;
    }
    return out;
  }

  /** One image's activations, a list [C, H, W] a node; the last are the logits. */
  activations(pixels) {
    return this.turn(async () => {
      this.upload(pixels);
      const { plan } = this;
      const encoder = this.device.createCommandEncoder();
      let at = 0;
      this.passes[0].steps.forEach((step, i) => {
        this.encode(encoder, [step]);
        // Buffers are used again by later dispatches, so each output is copied right behind the one that wrote it.
        for (const { after, buffer, bytes } of plan.activations) {
          if (after !== i) continue;
          encoder.copyBufferToBuffer(this.buffers[buffer], 0, this.staging, at, bytes);
          at += bytes;
        }
      });
      this.device.queue.submit([encoder.finish()]);
      const bytes = new Uint8Array(await this.download(at));
      at = 0;
      return plan.activations.map((a) => {
        at += a.bytes;
        return unpack(bytes.subarray(at - a.bytes, at), a);
      });
    });
  }

  /** Passes share buffers, so one waits for the other. */
  turn(work) {
    const result = this.busy.then(work);
    this.busy = result.catch(() => {});
    return result;
  }

  upload(pixels) {
    const words = new Uint8Array(Math.ceil(pixels.length / 4) * 4);
    words.set(pixels);
    this.device.queue.writeBuffer(this.buffers[this.plan.pixels], 0, words);
  }

  encode(encoder, steps) {
    const pass = encoder.beginComputePass();
    for (const { pipeline, group, groups } of steps) {
      pass.setPipeline(pipeline);
      pass.setBindGroup(0, group);
      pass.dispatchWorkgroups(...groups);
    }
    pass.end();
  }

  async pass({ images, steps }, pixels) {
    this.upload(pixels);
    const bytes = 4 * images * this.plan.classes;
    const encoder = this.device.createCommandEncoder();
    this.encode(encoder, steps);
    encoder.copyBufferToBuffer(this.buffers[this.plan.logits], 0, this.staging, 0, bytes);
    this.device.queue.submit([encoder.finish()]);
    return new Int32Array(await this.download(bytes));
  }

  async download(bytes) {
    await this.staging.mapAsync(GPUMapMode.READ, 0, bytes);
    const copy = this.staging.getMappedRange(0, bytes).slice(0);
    this.staging.unmap();
    return copy;
  }
}

/** From the shaders' layout, [H, W, C] with four 8-bit channels a word or one int32, to [C, H, W]. */
function unpack(bytes, { kind, shape: { h, w, c } }) {
  const Type = { i8: Int8Array, u8: Uint8Array, i32: Int32Array }[kind];
  const values = new Type(bytes.buffer, bytes.byteOffset, bytes.length / Type.BYTES_PER_ELEMENT);
  const stride = values.length / (h * w);
  return Int32Array.from({ length: c * h * w }, (_, i) => values[(i % (h * w)) * stride + Math.floor(i / (h * w))]);
}
