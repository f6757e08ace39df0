/** What is on the screen as a picture: the part of the film in view, its heatmap, and a strip of words. */

import { shown, words } from "./numbers.js";
import { paint } from "./paint.js";
import { warningsOf } from "./quality.js";
import { placeOf } from "./view.js";

const LARGEST = 2048; // px a side
const SMALLEST = 1024;

export const RESEARCH = "Research use only. Not a medical device.";
const HEATMAP = "It shows what moved the model, not where disease is.";
export const SYNTHETIC = "Trained on synthetic films: what the models say of a real film means nothing.";

export const isSynthetic = ({ models: { binary, disease } }) =>
  [binary, disease].some((version) => /\+synthetic\b/.test(version));

/** @returns {HTMLCanvasElement} */
export function screenshotOf(film, viewer, finding) {
  const region = inView(viewer);
  const longest = Math.max(region.width, region.height);
  const scale = Math.min(LARGEST, Math.max(SMALLEST, longest)) / longest;
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(region.width * scale);
  const height = Math.round(region.height * scale);
  const size = Math.max(13, Math.round(canvas.width / 52));
  const context = canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  const lines = wrapped(context, caption(film, viewer, finding), canvas.width - 2 * size, size);
  canvas.height = height + Math.round((lines.length * 1.4 + 1.2) * size);
  const place = { scale, left: -region.left * scale, top: -region.top * scale };
  paint(context, viewer.picture, place, viewer.view, viewer.heatmap);
  strip(context, lines, height, size);
  return canvas;
}

/** The film's rectangle in the port, in film px. */
function inView({ view, picture, port }) {
  const { scale, left, top } = placeOf(view, picture, port);
  const [from, to] = [Math.max(0, -left / scale), Math.min(picture.width, (port.width - left) / scale)];
  const [above, below] = [Math.max(0, -top / scale), Math.min(picture.height, (port.height - top) / scale)];
  return { left: from, top: above, width: to - from, height: below - above };
}

function caption(film, { view }, finding) {
  const { report } = film;
  const any = shown(report.finding);
  const verdict = report.finding.present ? "present" : "below";
  const lines = [film.name, `Any finding ${any.probability}, threshold ${any.threshold}: ${verdict}`];
  lines.push(...warningsOf(report));
  if (finding) {
    const own = shown(report.diseases[finding]);
    lines.push(`Heatmap: ${words(finding)} ${own.probability}, threshold ${own.threshold}. ${HEATMAP}`);
  }
  const inverted = view.inverted ? ", inverted" : "";
  lines.push(
    `Window ${Math.round(view.width)}, level ${Math.round(view.centre)}${inverted}. `
    + `Models ${report.models.binary}, ${report.models.disease}. ${RESEARCH}`,
  );
  if (isSynthetic(report)) lines.push(SYNTHETIC);
  return lines;
}

function wrapped(context, lines, width, size) {
  context.font = `${size}px system-ui, sans-serif`;
  return lines.flatMap((line) => {
    const rows = [""];
    for (const word of line.split(" ")) {
      const longer = `${rows.at(-1)} ${word}`.trim();
      if (context.measureText(longer).width <= width || !rows.at(-1)) rows[rows.length - 1] = longer;
      else rows.push(word);
    }
    return rows;
  });
}

function strip(context, lines, top, size) {
  const { canvas } = context;
  context.fillStyle = "#10151c";
  context.fillRect(0, top, canvas.width, canvas.height - top);
  context.fillStyle = "#e8ecf1";
  context.font = `${size}px system-ui, sans-serif`;
  context.textBaseline = "top";
  lines.forEach((line, at) => context.fillText(line, size, top + (0.8 + at * 1.4) * size));
}
