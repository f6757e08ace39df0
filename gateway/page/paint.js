/** A film on a canvas, as a view has it, with a heatmap over it; for the screen and for what is downloaded. */

import { changesGrey, shades } from "./view.js";

const PIXELS_SEEN = 6; // from this scale on, film pixels are shown as squares

/**
 * @param {CanvasRenderingContext2D} context
 * @param {ImageBitmap} picture the film
 * @param {{scale: number, left: number, top: number}} place on the canvas, in canvas px
 * @param {{canvas: HTMLCanvasElement, opacity: number} | null} heatmap
 */
export function paint(context, picture, place, view, heatmap) {
  const [across, down] = [picture.width * place.scale, picture.height * place.scale];
  context.imageSmoothingEnabled = place.scale < PIXELS_SEEN;
  context.imageSmoothingQuality = "high";
  context.drawImage(picture, place.left, place.top, across, down);
  if (changesGrey(view)) applyWindow(context, visiblePart(context.canvas, place, across, down), shades(view));
  if (!heatmap) return;
  context.imageSmoothingEnabled = true;
  context.globalAlpha = heatmap.opacity;
  context.drawImage(heatmap.canvas, place.left, place.top, across, down);
  context.globalAlpha = 1;
}

/** The film's rectangle on the canvas, in whole px. */
function visiblePart(canvas, place, across, down) {
  const left = Math.max(0, Math.floor(place.left));
  const top = Math.max(0, Math.floor(place.top));
  const width = Math.min(canvas.width, Math.ceil(place.left + across)) - left;
  const height = Math.min(canvas.height, Math.ceil(place.top + down)) - top;
  return { left, top, width, height };
}

function applyWindow(context, { left, top, width, height }, table) {
  if (width <= 0 || height <= 0) return;
  const pixels = context.getImageData(left, top, width, height);
  const { data } = pixels;
  for (let at = 0; at < data.length; at += 4) data[at] = data[at + 1] = data[at + 2] = table[data[at]];
  context.putImageData(pixels, left, top);
}
