// The page in headless Chromium: what it shows, and that its bits are the native ones.
import assert from 'node:assert/strict';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { pathToFileURL } from 'node:url';
import { MODEL, ROOT, checked, demo, launch, s3gpu } from './browser.mjs';

let browser;
let server;
let samples;
const folder = mkdtempSync(join(tmpdir(), 's3gpu-page-'));

before(async () => {
  [browser, server] = await Promise.all([launch(), demo(MODEL)]);
  samples = await (await fetch(`${server.url}samples.json`)).json();
});

after(async () => {
  await browser?.close();
  await server?.stop();
  rmSync(folder, { recursive: true });
});

/** A new page, with all that went wrong or left the page in `page.faults`. */
async function open(url = server.url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 900 }, ...options });
  if (options.init) await context.addInitScript(options.init);
  const page = await context.newPage();
  page.faults = [];
  page.on('pageerror', (error) => page.faults.push(String(error)));
  page.on('console', (message) => message.type() === 'error' && page.faults.push(message.text()));
  page.on('request', (request) => {
    const own = request.url().startsWith(url) || /^(data|blob):/.test(request.url());
    if (!own) page.faults.push(`asked for ${request.url()}`);
  });
  if (options.damage) await page.route('**/model.safetensors', (route) => route.fulfill({ body: Buffer.from(options.damage) }));
  for (const [name, answer] of Object.entries(options.answers ?? {})) await page.route(`**/${name}`, answer);
  await page.goto(url);
  return page;
}

const withoutGpu = () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined });

/** Another network: another scale of the logits is another graph, and a file without a sum is read, too. */
function another() {
  const text = readFileSync(MODEL).toString('latin1');
  const other = text.replace('"crc32":"6a2d13ea",', ' '.repeat(19)).replace(/\\"scale\\":8/, '\\"scale\\":4');
  return { name: 'other.safetensors', mimeType: '', buffer: Buffer.from(other, 'latin1') };
}

/** Once all is quiet: the reference alone, and nothing of another network's. */
async function alone(page) {
  await page.waitForTimeout(2000);
  assert.deepEqual(await page.evaluate(() => Object.keys(s3gpu.engines)), ['javascript']);
  assert.equal(await page.locator('[value=webgpu]').isDisabled(), true);
  assert.match(await page.textContent('#webgpu-text'), /another network/);
  assert.match(await page.textContent('#badge'), /No self-check/);
}

/** An engine's logits of all samples. */
const logits = (page, engine) =>
  page.evaluate(
    async ([name, count]) => {
      const inside = document.getElementById('samples.bin');
      const bytes = inside
        ? Uint8Array.from(atob(inside.textContent), (c) => c.charCodeAt(0))
        : new Uint8Array(await (await fetch('samples.bin')).arrayBuffer());
      const { h, w, c } = s3gpu.model.nodes[0].shape;
      return [...(await s3gpu.engines[name].logits(bytes.subarray(0, count * h * w * c)))];
    },
    [engine, samples.images],
  );

test('the page checks itself, and its logits are the native ones', async () => {
  const page = await open();
  const badge = await checked(page);
  assert.match(badge, /WebGPU = JavaScript reference = native on 32 images/);
  assert(badge.includes(samples.logits_hash));
  for (const engine of ['webgpu', 'javascript']) assert.deepEqual(await logits(page, engine), samples.logits, engine);
  const equal = await page.evaluate(async () => {
    const { engines, picture, model } = s3gpu;
    const [a, b] = await Promise.all([engines.webgpu, engines.javascript].map((e) => e.activations(picture.pixels)));
    return model.nodes.map((node, i) => a[i].length === b[i].length && a[i].every((v, k) => v === b[i][k]) && node.name);
  });
  assert.equal(equal.filter((name) => name === false).length, 0, `layers differ: ${equal}`);
  assert.deepEqual(page.faults, []);
});

test('samples, engines and layers answer to mouse and keyboard', async () => {
  const page = await open();
  await checked(page);
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  const names = await page.evaluate(() => s3gpu.model.info.classNames);
  const first = (i) => {
    const own = samples.logits.slice(i * names.length, (i + 1) * names.length);
    return names[own.indexOf(Math.max(...own))];
  };
  await page.locator('#samples button').nth(2).click();
  await page.waitForFunction((name) => document.getElementById('answer').textContent === name, first(2));
  await page.locator('#samples button').nth(7).focus();
  await page.keyboard.press('Enter');
  await page.waitForFunction((name) => document.getElementById('answer').textContent === name, first(7));
  assert.equal(await page.locator('#samples button').nth(7).getAttribute('aria-pressed'), 'true');
  assert.equal(await page.locator('#bars li').count(), 5);
  await page.check('[value=javascript]');
  await page.waitForFunction(() => document.getElementById('status').textContent.includes('JavaScript'));
  await page.locator('#layers .name').nth(1).focus();
  await page.keyboard.press('Enter');
  assert.match(await page.locator('#all-1').textContent(), /16 channels of 32×32/);
  const nameless = await page.evaluate(() =>
    [...document.querySelectorAll('button, input, canvas')]
      .filter((e) => !e.closest('[hidden]') && !e.closest('button canvas') && !(e.ariaLabel || e.textContent.trim() || e.labels?.length))
      .map((e) => e.outerHTML));
  assert.deepEqual(nameless.filter((html) => !html.includes('type="file"')), []);
  assert.deepEqual(page.faults, []);
});

test('a picture file gives the native logits', async () => {
  const page = await open();
  await checked(page);
  for (const name of ['palette.png', 'grey16.png']) {
    const file = join(ROOT, 'tests/fixtures/images', name);
    await page.setInputFiles('#file', file);
    await page.waitForFunction((text) => s3gpu.picture.text === text, name);
    const native = JSON.parse(s3gpu('infer', MODEL, file, '--device', 'cpu', '--top', '10', '--json').stdout).top;
    const found = await page.evaluate(async () => [...(await s3gpu.engines.webgpu.logits(s3gpu.picture.pixels))]);
    for (const { index, logit } of native) assert.equal(found[index], logit, `${name}, class ${index}`);
  }
  await page.setInputFiles('#file', { name: 'notes.txt', mimeType: 'text/plain', buffer: Buffer.from('no picture') });
  await page.waitForSelector('.notice[data-kind=error]');
  assert.match(await page.textContent('.notice'), /notes.txt cannot be shown.*decode/);
});

test('the camera runs and stops', async () => {
  const page = await open(server.url, { permissions: ['camera'] });
  await checked(page);
  await page.click('#camera');
  await page.waitForFunction(() => s3gpu.picture.text === 'The camera');
  await page.click('#camera');
  assert.equal(await page.locator('#video').isVisible(), false);
  assert.deepEqual(page.faults, []);
});

test('a camera that is stopped before it opens stays off', async () => {
  const init = () => {
    globalThis.streams = [];
    const real = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    navigator.mediaDevices.getUserMedia = async (wish) => {
      await new Promise((resolve) => setTimeout(resolve, 500));
      streams.push(await real(wish));
      return streams.at(-1);
    };
  };
  const page = await open(server.url, { permissions: ['camera'], init });
  await checked(page);
  const live = () => page.evaluate(() => streams.map((s) => s.getTracks().some((t) => t.readyState === 'live')));
  for (let i = 0; i < 3; i++) await page.click('#camera');
  await page.waitForFunction(() => s3gpu.picture.text === 'The camera');
  assert.deepEqual(await live(), [false, true]);
  await page.click('#camera');
  assert.deepEqual(await live(), [false, false]);
  assert.equal(await page.locator('#video').isVisible(), false);
  assert.equal(await page.locator('.notice').count(), 0);
  assert.deepEqual(page.faults, []);
});

test('a picture that the browser does not draw is refused', async () => {
  const page = await open();
  await checked(page);
  // So behaves a canvas beyond the browser's limit.
  await page.evaluate(() => (CanvasRenderingContext2D.prototype.fillRect = CanvasRenderingContext2D.prototype.drawImage = () => {}));
  await page.setInputFiles('#file', join(ROOT, 'tests/fixtures/images/palette.png'));
  await page.waitForSelector('.notice[data-kind=error]');
  assert.match(await page.textContent('.notice'), /more than this browser draws/);
});

test('without WebGPU the reference runs, and the page says what is missing', async () => {
  const page = await open(server.url, { init: withoutGpu });
  assert.match(await checked(page), /JavaScript reference = native on 32 images/);
  assert.match(await page.textContent('.notice'), /WebGPU is missing.*navigator.gpu/);
  assert.equal(await page.locator('[value=webgpu]').isDisabled(), true);
  assert.deepEqual(await logits(page, 'javascript'), samples.logits);
  assert.deepEqual(page.faults, []);
});

test('a lost device is said, the reference goes on, and it can be opened again', async () => {
  const page = await open();
  await checked(page);
  await page.evaluate(() => s3gpu.engines.webgpu.gpu.device.destroy());
  await page.waitForSelector('.notice[data-name=lost]');
  await page.locator('#samples button').nth(4).click();
  await page.waitForFunction(() => document.getElementById('status').textContent.includes('JavaScript'));
  const passed = (start) =>
    page.waitForFunction((text) => document.getElementById('badge').textContent.includes(`passed: ${text}`), start);
  await passed('JavaScript reference = native');
  await page.click('.notice button');
  await page.waitForFunction(() => document.getElementById('status').textContent.includes('WebGPU'));
  await passed('WebGPU = JavaScript reference = native');
});

test('a damaged network is refused with its reason', async () => {
  const whole = readFileSync(MODEL);
  const flipped = Buffer.from(whole);
  flipped[whole.length - 100] ^= 4;
  const beside = await open(server.url, { damage: whole.subarray(0, 20_000) });
  await beside.waitForSelector('.notice[data-kind=error]');
  assert.match(await beside.textContent('.notice'), /model.safetensors is refused.*truncated/);
  assert.equal(await beside.locator('#main').isVisible(), false);

  const page = await open();
  await checked(page);
  await page.setInputFiles('#file', { name: 'bad.safetensors', mimeType: '', buffer: flipped });
  await page.waitForSelector('.notice[data-kind=error]');
  assert.match(await page.textContent('.notice'), /bad.safetensors is refused.*crc32.*damaged/);
  // The network that was there before still is.
  await page.locator('#samples button').nth(1).click();
  assert.match(await page.textContent('#badge'), /passed/);
  assert.deepEqual(page.faults, []);
});

test('another network runs by the reference, without a native hash to hold it against', async () => {
  const page = await open();
  await checked(page);
  await page.setInputFiles('#file', MODEL);
  await page.waitForSelector('.notice[data-kind=warn]');
  await page.setInputFiles('#file', another());
  assert.match(await checked(page, 'none'), /No self-check/);
  assert.equal(await page.locator('[value=webgpu]').isDisabled(), true);
  assert.deepEqual(await logits(page, 'javascript'), samples.logits);
  assert.deepEqual(page.faults, []);
});

test('a network dropped while the plan loads keeps the reference, and the first one comes back whole', async () => {
  let release;
  const wait = new Promise((resolve) => (release = resolve));
  const page = await open(server.url, { answers: { 'plan.bin': (route) => wait.then(() => route.continue()) } });
  await page.waitForFunction(() => s3gpu.picture);
  await page.setInputFiles('#file', another());
  await checked(page, 'none');
  const arrived = page.waitForResponse('**/plan.bin');
  release();
  await arrived;
  await alone(page);
  await page.setInputFiles('#file', MODEL);
  assert.match(await checked(page), /WebGPU = JavaScript reference = native on 32 images/);
  assert.equal(await page.locator('#samples button').count(), 32);
  assert.deepEqual(page.faults, []);
});

test('a network dropped after the GPU was lost does not get the old shaders', async () => {
  const page = await open();
  await checked(page);
  await page.evaluate(() => s3gpu.engines.webgpu.gpu.device.destroy());
  const retry = await page.waitForSelector('.notice[data-name=lost] button');
  await page.setInputFiles('#file', another());
  await checked(page, 'none');
  assert.equal(await page.locator('.notice[data-name=lost]').count(), 0);
  // A click that was on its way.
  await retry.evaluate((button) => button.click());
  await alone(page);
  assert.deepEqual(page.faults, []);
});

test('a device that could not be made ready is given back', async () => {
  const init = () => {
    globalThis.destroyed = 0;
    const { destroy } = GPUDevice.prototype;
    GPUDevice.prototype.destroy = function () {
      globalThis.destroyed++;
      return destroy.call(this);
    };
    GPUDevice.prototype.createComputePipelineAsync = () => Promise.reject(new Error('no pipeline'));
  };
  const page = await open(server.url, { init });
  assert.match(await checked(page), /JavaScript reference = native/);
  assert.match(await page.textContent('.notice'), /could not be started.*no pipeline/);
  assert.equal(await page.evaluate(() => destroyed), 1);
});

test('without samples there is nothing to measure until a picture comes', async () => {
  const page = await open(server.url, { answers: { 'samples.bin': (route) => route.fulfill({ status: 404 }) } });
  await checked(page, 'bad');
  await page.click('#measure');
  assert.equal(await page.textContent('#measure'), 'Measure');
  await page.setInputFiles('#file', join(ROOT, 'tests/fixtures/images/palette.png'));
  await page.waitForFunction(() => s3gpu.picture);
  await page.click('#measure');
  assert.equal(await page.textContent('#measure'), 'Stop');
  await page.click('#measure');
  await page.waitForFunction(() => document.getElementById('measure').textContent === 'Measure');
});

test('one file opens from disk, without multiplying shaders', async () => {
  const file = join(folder, 'page.html');
  const made = s3gpu('export', MODEL, '--format', 'web', '--single-file', '--shift-only', '--out', file);
  assert.equal(made.status, 0, made.stderr);
  const page = await open(pathToFileURL(file).href);
  assert.match(await checked(page), new RegExp(`WebGPU = JavaScript reference = native .*${samples.logits_hash}`));
  assert.deepEqual(await logits(page, 'webgpu'), samples.logits);
  const codes = await page.evaluate(() => s3gpu.engines.webgpu.gpu.plan.pipelines.map((p) => p.name));
  assert(codes.includes('int_conv_pairs_shift') && !codes.includes('int_conv_pairs'), `${codes}`);
  assert.deepEqual(page.faults, []);
});

test('it fits a phone', async () => {
  const page = await open(server.url, { viewport: { width: 360, height: 740 }, init: withoutGpu });
  await checked(page);
  await page.locator('#layers .name').nth(2).click();
  assert.equal(await page.evaluate(() => document.scrollingElement.scrollWidth), 360);
});

test('the server guards its answers, and ends at Ctrl-C', async () => {
  const own = await demo(MODEL);
  const port = new URL(own.url).port;
  const answer = await fetch(own.url);
  const policy = answer.headers.get('content-security-policy');
  assert.match(policy, /^default-src 'none'; script-src 'self'/);
  assert.doesNotMatch(policy, /unsafe|\*/);
  const types = { 'page.js': 'text/javascript', 'style.css': 'text/css', 'plan.json': 'application/json', 'model.safetensors': 'application/octet-stream' };
  for (const [name, type] of Object.entries(types)) {
    assert.match((await fetch(own.url + name)).headers.get('content-type'), new RegExp(`^${type}`));
  }
  assert.equal((await fetch(`${own.url}Cargo.toml`)).status, 404);
  assert.equal((await fetch(own.url, { method: 'POST' })).status, 405);
  const second = s3gpu('demo', MODEL, '--port', port);
  assert.equal(second.status, 2);
  assert.match(second.stderr, new RegExp(`port ${port} is taken[^]*--port`));
  const { code, text } = await own.stop();
  assert.deepEqual([code, text.trim().split('\n').at(-1)], [0, 'ended']);
});
