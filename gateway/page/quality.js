/** Whether the models can read such a film, in words. */

import { element } from "./element.js";
import { sentence } from "./numbers.js";

/** @returns {string[]} sentences: what was put right before the film was read, then what is still the matter */
export function warningsOf({ quality }) {
  if (!quality) return [];
  const said = quality.warnings.map(sentence);
  const right = quality.corrected && correction(quality.corrected);
  return right ? [right, ...said] : said;
}

/** A box above the report; null where there is nothing to say. */
export function warningBox(report) {
  const warnings = warningsOf(report);
  if (!warnings.length) return null;
  return element(
    "div", { class: "warned", role: "note", "aria-label": "Can the models read this film?" },
    element("h4", {}, report.quality.readable ? "Look at the film first" : "The models may not be able to read this film"),
    ...warnings.map((warning) => element("p", {}, warning)),
  );
}

function correction({ turned, inverted }) {
  const parts = [
    turned === "upright" ? "" : `turned back (it lies turned by ${turned}° clockwise)`,
    inverted ? "inverted back (its bones are dark)" : "",
  ];
  return `Read ${parts.filter(Boolean).join(" and ")}; shown as it was sent.`;
}
