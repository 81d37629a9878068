// Where pictures come from: files picked, dropped or pasted, and the camera.

import { $ } from './view.js';
import { PictureError, decode, pixelsOf } from './picture.js';

/** Calls `take(file)` for every file that is picked, dropped or pasted. */
export function listen(take) {
  const open = () => $('file').click();
  $('pick').addEventListener('click', open);
  $('other').addEventListener('click', open);
  $('file').addEventListener('change', () => {
    if ($('file').files[0]) take($('file').files[0]);
    $('file').value = '';
  });
  document.addEventListener('paste', (event) => {
    const file = event.clipboardData?.files[0];
    if (file) take(file);
  });
  // Entering and leaving are told of every element on the way, so they are counted.
  let depth = 0;
  const veil = (step) => ($('veil').hidden = (depth = Math.max(depth + step, 0)) === 0);
  document.addEventListener('dragenter', () => veil(1));
  document.addEventListener('dragleave', () => veil(-1));
  document.addEventListener('dragover', (event) => event.preventDefault());
  document.addEventListener('drop', (event) => {
    event.preventDefault();
    veil(-depth);
    const file = event.dataTransfer.files[0];
    if (file) take(file);
  });
}

/** A picture file's pixels for the network. */
export async function readPicture(file, shape) {
  const bitmap = await decode(file);
  try {
    return pixelsOf(bitmap, bitmap.width, bitmap.height, shape);
  } finally {
    bitmap.close();
  }
}

/** The camera: `toggle(shape, frame)` starts it, awaiting `frame(pixels)` for one frame after the other, or stops it. */
export class Camera {
  stream = null;
  on = false;
  /** Counts starts and stops: what awaits across one of them is stale. */
  turn = 0;

  async toggle(shape, frame) {
    if (this.on) return this.stop();
    if (!navigator.mediaDevices) throw new PictureError('This browser offers no camera here; it does on pages from https:// or localhost.');
    const mine = ++this.turn;
    const running = () => mine === this.turn;
    this.light(true);
    try {
      const stream = await openCamera();
      if (!running()) return end(stream);
      this.stream = stream;
      const video = $('video');
      video.srcObject = stream;
      video.hidden = false;
      await video.play();
      while (running()) {
        if (video.videoWidth) await frame(pixelsOf(video, video.videoWidth, video.videoHeight, shape));
        await new Promise(requestAnimationFrame);
      }
    } catch (error) {
      // Stopping it interrupts what it awaits, and nobody asks for that any more.
      if (running()) throw error;
    }
  }

  stop() {
    this.turn++;
    end(this.stream);
    this.stream = null;
    $('video').hidden = true;
    $('video').srcObject = null;
    this.light(false);
  }

  light(on) {
    this.on = on;
    $('camera').setAttribute('aria-pressed', String(on));
    $('camera').textContent = on ? 'Stop the camera' : 'Camera';
  }
}

const end = (stream) => stream?.getTracks().forEach((track) => track.stop());

async function openCamera() {
  try {
    return await navigator.mediaDevices.getUserMedia({ video: { facingMode: 'environment', width: { ideal: 640 } } });
  } catch (error) {
    throw new PictureError(error.name === 'NotAllowedError' ? 'The camera was not allowed: the browser asks again after a reload.' : `No camera could be opened: ${error.message}`);
  }
}
