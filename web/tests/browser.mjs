// What the page's tests share: the command, its server, headless Chromium with WebGPU on a software adapter.
import { spawn, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = join(dirname(fileURLToPath(import.meta.url)), '../..');
export const MODEL = join(ROOT, 'tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors');
const S3GPU = join(ROOT, process.env.CARGO_TARGET_DIR ?? 'target', 'release/s3gpu');

/** Runs the command to its end: {status, stdout, stderr}. */
export const s3gpu = (...args) => spawnSync(S3GPU, args, { encoding: 'utf8' });

/** `s3gpu demo`, once it says where it is: {url, stop}; `stop` presses Ctrl-C and gives {code, text}. */
export async function demo(...args) {
  const child = spawn(S3GPU, ['demo', ...args, '--port', '0']);
  let text = '';
  const ended = new Promise((resolve) => child.on('close', (code) => resolve({ code, text })));
  const url = await new Promise((resolve, reject) => {
    const hear = (chunk) => {
      text += chunk;
      const found = text.match(/http:\S+/);
      if (found) resolve(found[0]);
    };
    child.stdout.on('data', hear);
    child.stderr.on('data', hear);
    ended.then(() => reject(new Error(`s3gpu demo ended: ${text}`)));
  });
  return { url, stop: () => (child.kill('SIGINT'), ended) };
}

const ARGS = [
  '--headless=new', '--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic',
  '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
  '--use-fake-device-for-media-stream', '--use-fake-ui-for-media-stream',
];

export async function launch() {
  // Only what opens a browser needs the package.
  const { chromium } = await import('playwright-core');
  const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';
  return chromium.launch({ executablePath, args: ARGS });
}

/** The self-check's end. */
export async function checked(page, state = 'good') {
  await page.waitForSelector(`#badge[data-state="${state}"]`, { timeout: 60_000 });
  return page.textContent('#badge');
}
