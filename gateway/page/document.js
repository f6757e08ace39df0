/** The report as a PDF of one page. jsPDF is loaded when the first is asked for. */

import { shown, words } from "./numbers.js";
import { inOrder } from "./report.js";
import { RESEARCH, SYNTHETIC, isSynthetic } from "./screenshot.js";

const [WIDTH, HEIGHT, EDGE] = [210, 297, 16]; // mm, A4
const INK = [26, 31, 38];
const GREY = [91, 102, 116];
const AMBER = [154, 82, 0];
const SLATE = [96, 118, 146];

/** @param {HTMLCanvasElement} shot of the film @returns {Promise<Blob>} */
export async function pdfOf(film, shot) {
  await import("./vendor/jspdf.umd.min.js");
  const page = new globalThis.jspdf.jsPDF({ unit: "mm", format: "a4", compress: true });
  page.setProperties({ title: "CXR Cascade report", creator: "CXR Cascade" });
  heading(page, film);
  const top = banner(page, film.report, 33);
  const bottom = picture(page, shot, top + 5);
  table(page, film.report, bottom + 8);
  footer(page, film.report);
  return page.output("blob");
}

function write(page, text, x, y, { size = 9, colour = INK, bold = false, align = "left" } = {}) {
  page.setFont("helvetica", bold ? "bold" : "normal").setFontSize(size).setTextColor(...colour);
  page.text(text, x, y, { align });
}

/** Lines that fit the page's width. */
function lines(page, text, size, width = WIDTH - 2 * EDGE) {
  return page.setFont("helvetica", "normal").setFontSize(size).splitTextToSize(text, width);
}

/** PDF's own fonts know Latin letters only; the strip under the film has the name as it is. */
const latin = (text) => text.replace(/[^\x20-\x7e\xa0-\xff]/g, "?");

function heading(page, film) {
  write(page, "CXR Cascade", EDGE, 20, { size: 16, bold: true });
  const now = `${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC`;
  write(page, lines(page, latin(film.name), 9, 120)[0], EDGE, 26, { colour: GREY });
  write(page, now, WIDTH - EDGE, 26, { colour: GREY, align: "right" });
}

function banner(page, report, top) {
  const synthetic = isSynthetic(report);
  const height = synthetic ? 13 : 8;
  page.setFillColor(...(synthetic ? [255, 214, 138] : [236, 239, 243]));
  page.rect(EDGE, top - 3, WIDTH - 2 * EDGE, height, "F");
  write(page, RESEARCH, EDGE + 3, top + 2, { bold: true });
  if (synthetic) write(page, SYNTHETIC, EDGE + 3, top + 7, { bold: true });
  return top - 3 + height;
}

function picture(page, shot, top) {
  const scale = Math.min((WIDTH - 2 * EDGE) / shot.width, 112 / shot.height);
  const [across, down] = [shot.width * scale, shot.height * scale];
  page.addImage(shot.toDataURL("image/jpeg", 0.92), "JPEG", (WIDTH - across) / 2, top, across, down);
  return top + down;
}

function table(page, report, top) {
  const any = { ...report.finding };
  line(page, "Any finding (stage 1)", any, top, true);
  page.setDrawColor(...GREY).setLineWidth(0.1).line(EDGE, top + 2.6, WIDTH - EDGE, top + 2.6);
  if (!report.routed) {
    const { probability, threshold } = shown(any);
    const why = `stage 1's probability, ${probability}, is below its threshold of ${threshold}`;
    const text = `Stage 2 was skipped: ${why}. That is no statement on any of the 14 findings.`;
    write(page, lines(page, text, 9), EDGE, top + 8);
    return;
  }
  inOrder(report.diseases).forEach(([name, score], at) => {
    line(page, words(name), score, top + 7.4 + at * 5.6, score.present);
  });
}

function line(page, name, score, y, bold) {
  const { probability, threshold } = shown(score);
  write(page, name, EDGE, y, { bold });
  if (score.present) write(page, "present", 66, y, { bold: true, colour: AMBER });
  page.setFillColor(228, 232, 237).rect(84, y - 2.4, 60, 2.4, "F");
  page.setFillColor(...(score.present ? AMBER : SLATE)).rect(84, y - 2.4, 60 * score.probability, 2.4, "F");
  const mark = 84 + 60 * score.threshold;
  page.setDrawColor(...INK).setLineWidth(0.4).line(mark, y - 3.1, mark, y + 0.7);
  write(page, probability, 162, y, { bold, align: "right" });
  write(page, `threshold ${threshold}`, WIDTH - EDGE, y, { colour: GREY, align: "right" });
}

function footer(page, report) {
  const models = `Models: binary ${report.models.binary}, disease ${report.models.disease}.`;
  const meaning = "A probability is compared with its own threshold (the upright mark).";
  const text = `${models} ${meaning} A heatmap shows what moved the model, not where disease is.`;
  write(page, lines(page, text, 7.5), EDGE, HEIGHT - 14, { size: 7.5, colour: GREY });
}
