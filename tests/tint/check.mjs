// Compiles every .wgsl file of a folder with Tint, the WGSL compiler of Chromium, and builds its compute pipeline.
//
//   node check.mjs FOLDER     as written by `s3gpu doctor --dump-shaders FOLDER`
//
// A file is named <kernel>.wgsl or <kernel>.<variant>.wgsl; its entry point is <kernel>. CHROMIUM names the browser.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

/** The floor that every portable kernel keeps to: WebGPU's default limits and ten storage buffers. */
const REQUIRED_LIMITS = { maxStorageBuffersPerShaderStage: 10 };
const TIMEOUT_MS = 120_000;

function stop(message) {
  console.error(`tint: ${message}`);
  process.exit(1);
}

/** Runs in the page: keeps a device for `compile`, and returns the adapter's name. */
async function openDevice(requiredLimits) {
  const adapter = await navigator.gpu?.requestAdapter();
  if (!adapter) throw new Error('the browser offers no WebGPU adapter');
  globalThis.device = await adapter.requestDevice({ requiredLimits });
  globalThis.device.lost.then((info) => (globalThis.lost = info.message || info.reason));
  const { vendor, architecture, device, description } = adapter.info;
  return [vendor, architecture, device, description].filter(Boolean).join(' ');
}

/** Runs in the page: all that Tint and the pipeline have against one shader, as {line, column, message}. */
async function compile({ code, entryPoint }) {
  if (globalThis.lost !== undefined) return [{ line: 0, column: 0, message: `device lost: ${globalThis.lost}` }];
  const module = globalThis.device.createShaderModule({ code });
  const { messages } = await module.getCompilationInfo();
  const errors = messages.filter((m) => m.type === 'error');
  if (errors.length) return errors.map((m) => ({ line: m.lineNum, column: m.linePos, message: m.message }));
  try {
    await globalThis.device.createComputePipelineAsync({ layout: 'auto', compute: { module, entryPoint } });
    return [];
  } catch (error) {
    return [{ line: 0, column: 0, message: `pipeline: ${error.message}` }];
  }
}

/** Fails when the work does, or when it takes too long: a hanging compiler is a failure too. */
function withTimeout(work) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${TIMEOUT_MS / 1000} s`)), TIMEOUT_MS);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}

const folder = process.argv[2] ?? stop('usage: node check.mjs FOLDER');
let files;
try {
  files = readdirSync(folder).filter((name) => name.endsWith('.wgsl')).sort();
} catch (error) {
  stop(`${folder}: cannot be read (${error.code})`);
}
if (files.length === 0) stop(`${folder}: no .wgsl files; write them with  s3gpu doctor --dump-shaders ${folder}`);

const executablePath = process.env.CHROMIUM || '/usr/bin/chromium';
const browser = await chromium
  .launch({
    executablePath,
    args: [
      '--headless=new', '--no-sandbox', '--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader', '--disable-quic',
      '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync',
    ],
  })
  .catch((error) => stop(`${executablePath} does not start (CHROMIUM names another one): ${error.message}`));

let failed = 0;
try {
  const page = await browser.newPage();
  // WebGPU is there in secure contexts only: a blank page that claims to come from localhost is one.
  await page.route('**/*', (route) => route.fulfill({ contentType: 'text/html', body: '<!doctype html>' }));
  await page.goto('http://localhost/');
  console.log(`tint: ${browser.version()}, adapter ${await withTimeout(page.evaluate(openDevice, REQUIRED_LIMITS))}`);
  for (const file of files) {
    const code = readFileSync(join(folder, file), 'utf8');
    const entryPoint = file.split('.')[0];
    const errors = await withTimeout(page.evaluate(compile, { code, entryPoint })).catch((error) => [
      { line: 0, column: 0, message: error.message },
    ]);
    if (errors.length) failed += 1;
    for (const { line, column, message } of errors) {
      console.error(line ? `${file}:${line}:${column}: ${message}` : `${file}: ${message}`);
    }
  }
} catch (error) {
  failed = files.length;
  console.error(`tint: ${error.message}`);
} finally {
  await browser.close();
}
console.log(`${files.length - failed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
