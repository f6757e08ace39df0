import { element } from "./element.js";

/** A probability as a bar from 0 to 1, with an upright mark at its threshold; for the eye alone. */
export function bar(score, kind = "") {
  const parts = ["fill", "tick"].map((part) => element("span", { class: part }));
  const attributes = { class: `bar ${kind}`, "aria-hidden": "true", "data-present": score.present };
  const made = element("span", attributes, ...parts);
  made.style.setProperty("--p", score.probability);
  made.style.setProperty("--t", score.threshold);
  return made;
}
