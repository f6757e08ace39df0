/** Heatmaps: asked for when a finding is chosen, and coloured here. */

import { Refused, post } from "./service.js";

const LARGEST = 1024; // px a side; a map is smooth, and holds no more than the model's patches

// Inferno (van der Walt and Smith, CC0): perceptually even, and read alike by those who see few colours.
const INFERNO = (
  "000004 040312 0b0724 150b37 210c4a 2f0a5b 3d0965 4a0c6b 57106e 64156e 71196e 7d1e6d 8a226a 972766 a32c61 b0315b "
  + "bc3754 c73e4c d24644 db503b e45a31 eb6628 f1731d f68013 f98e09 fb9d07 fcac11 fbbc21 f9cb35 f5db4c f2ea69 f3f68a fcffa4"
).split(" ").map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

const COLOURS = Array.from({ length: 256 }, (_, value) => {
  const step = (value / 255) * (INFERNO.length - 1);
  const [below, above] = [INFERNO[Math.floor(step)], INFERNO[Math.ceil(step)]];
  return below.map((channel, at) => channel + (above[at] - channel) * (step % 1));
});

const ALPHA = Uint8Array.from({ length: 256 }, (_, value) => Math.round(255 * (value / 255) ** 1.5));

const made = new WeakMap(); // film -> Map(finding -> canvas)

/**
 * The finding's heatmap: a canvas of the film's aspect, more opaque where there is more, and whether there is nothing.
 * @returns {Promise<{canvas: HTMLCanvasElement, empty: boolean}>}
 * @throws {Refused} the service gives none
 */
export async function heatmapOf(film, finding) {
  const known = made.get(film) ?? new Map();
  made.set(film, known);
  if (!known.has(finding)) {
    const path = `v1/reports?heatmaps=${encodeURIComponent(finding)}`;
    const report = await (await post(path, film.file, { signal: film.leaving.signal })).json();
    const map = report.heatmaps?.[finding];
    if (!map) throw new Refused("No heatmap", "The service has no heatmap of this finding.");
    known.set(finding, await coloured(map));
  }
  return known.get(finding);
}

async function coloured(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  const picture = await createImageBitmap(new Blob([bytes], { type: "image/png" }), { colorSpaceConversion: "none" });
  const scale = Math.min(1, LARGEST / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0, canvas.width, canvas.height);
  picture.close();
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const { data } = pixels;
  let highest = 0;
  for (let at = 0; at < data.length; at += 4) {
    const value = data[at];
    highest = Math.max(highest, value);
    data.set(COLOURS[value], at);
    data[at + 3] = ALPHA[value];
  }
  context.putImageData(pixels, 0, 0);
  return { canvas, empty: highest === 0 };
}
