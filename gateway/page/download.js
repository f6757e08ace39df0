/** Files to keep: picture, report, page. */

import { pdfOf } from "./document.js";
import { screenshotOf } from "./screenshot.js";

const MAKERS = {
  png: (film, viewer, finding) => new Promise((done) => screenshotOf(film, viewer, finding).toBlob(done, "image/png")),
  json: async ({ name, report }) => {
    const text = JSON.stringify({ film: name, ...report }, null, 2);
    return new Blob([`${text}\n`], { type: "application/json" });
  },
  pdf: (film, viewer, finding) => pdfOf(film, screenshotOf(film, viewer, finding)),
};

/** @param {"png" | "json" | "pdf"} kind */
export async function download(kind, film, viewer, finding) {
  const address = URL.createObjectURL(await MAKERS[kind](film, viewer, finding));
  const link = document.createElement("a");
  link.href = address;
  link.download = `${film.name.replace(/\.(png|jpe?g|dcm|dicom)$/i, "")}.cxr.${kind}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000); // the browser reads it after the click
}
