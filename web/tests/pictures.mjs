// Pictures of the page, to look at and for the README:  node web/tests/pictures.mjs FOLDER [URL]
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MODEL, checked, demo, launch } from './browser.mjs';

const folder = process.argv[2] ?? '.';
const [browser, server] = await Promise.all([launch(), process.argv[3] ? { url: process.argv[3] } : demo(MODEL)]);

async function shoot(name, { init, then, ...options }, full = true) {
  const context = await browser.newContext({ reducedMotion: 'reduce', ...options });
  if (init) await context.addInitScript(init);
  const page = await context.newPage();
  page.on('console', (message) => message.type() === 'error' && console.error(name, message.text()));
  page.on('pageerror', (error) => console.error(name, error));
  await page.goto(server.url);
  await checked(page);
  await then?.(page);
  await page.screenshot({ path: join(folder, `${name}.png`), fullPage: full });
  await context.close();
}

const star = (page) => page.locator('#samples button').nth(16).click().then(() => page.waitForTimeout(2500));
const measured = async (page) => {
  await star(page);
  await page.click('#measure');
  await page.waitForFunction(() => document.getElementById('measure').textContent === 'Measure', null, { timeout: 60_000 });
  await page.evaluate(() => document.activeElement.blur());
};
const wide = { width: 1180, height: 900 };
await shoot('wide', { viewport: wide, then: measured });
await shoot('page', { viewport: { width: 1180, height: 1330 }, then: star }, false);
await shoot('dark', { viewport: wide, colorScheme: 'dark', then: async (page) => {
  await star(page);
  await page.locator('#layers .name').nth(4).click();
  await page.waitForTimeout(500);
} });
await shoot('phone', { viewport: { width: 375, height: 812 }, deviceScaleFactor: 2, then: star });
await shoot('error', { viewport: wide, init: () => Object.defineProperty(Navigator.prototype, 'gpu', { get: () => undefined }), then: async (page) => {
  const bytes = readFileSync(MODEL);
  bytes[bytes.length - 100] ^= 4;
  await page.setInputFiles('#file', { name: 'copied.safetensors', mimeType: '', buffer: bytes });
  await page.waitForSelector('.notice[data-kind=error]');
} }, false);
await browser.close();
await server.stop?.();
