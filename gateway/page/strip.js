import { element } from "./element.js";

/**
 * Where a probability stands among those of validation films: a line from their lowest to their highest, a ring on it
 * for the films without the finding, a dot for those with it. Null where the models' archives do not say.
 */
export function strip(percentiles) {
  if (!percentiles || inWords(percentiles) === null) return null;
  const line = element("span", { class: "strip", "aria-hidden": "true", title: inWords(percentiles) });
  for (const [kind, place] of [["ring", percentiles.without_finding], ["dot", percentiles.with_finding]]) {
    if (place === null) continue;
    const mark = element("span", { class: kind });
    mark.style.setProperty("--at", place / 100);
    line.append(mark);
  }
  return line;
}

/** The same in words; null where validation films of either kind were too few. */
export function inWords({ with_finding: ill, without_finding: well }) {
  const parts = [[well, "without it"], [ill, "with it"]].filter(([place]) => place !== null);
  if (!parts.length) return null;
  return `higher than in ${parts.map(([place, kind]) => `${Math.round(place)}% of validation films ${kind}`).join(", ")}`;
}
