/** What the cascade sees in one film. */

import { bar } from "./bar.js";
import { byId, element } from "./element.js";
import { feedback } from "./feedback.js";
import { sentence, shown, words } from "./numbers.js";
import { warningBox } from "./quality.js";
import { inWords, strip } from "./strip.js";

const container = byId("report");

/**
 * @param {{onFinding: (finding: string) => void, onAgain: () => void}} does
 */
export function drawReport(film, does) {
  container.replaceChildren(...(film ? content(film, does) : []));
}

/** Which finding's heatmap is on ("shown"), being fetched ("coming"), or none. */
export function markFinding(finding, state) {
  for (const button of container.querySelectorAll(".finding")) {
    const own = button.dataset.finding === finding ? state : null;
    button.setAttribute("aria-pressed", String(own === "shown"));
    button.toggleAttribute("data-coming", own === "coming");
  }
}

function content(film, does) {
  const title = element("h3", { class: "film-name", title: film.name }, film.name);
  if (film.state === "refused") return [title, refused(film, does)];
  if (film.state !== "read") return [title, element("p", { class: "pending" }, pendingText(film))];
  const { report } = film;
  return [title, warningBox(report), stage1(report), stage2(report, does), feedback(film), facts(film)].filter(Boolean);
}

function pendingText(film) {
  if (film.state === "later") return `${film.wait.why}. The film is sent again in ${film.wait.seconds} s.`;
  return film.state === "reading" ? "The film is being read…" : "The film waits for its turn.";
}

function refused(film, does) {
  const box = element(
    "div", { class: "refused" },
    element("h4", {}, film.refused.title), element("p", {}, sentence(film.refused.message)),
  );
  if (film.refused.again) {
    const button = element("button", { type: "button" }, "Try again");
    button.addEventListener("click", does.onAgain);
    box.append(button);
  }
  return box;
}

function stage1({ finding }) {
  const { probability, threshold } = shown(finding);
  return element(
    "section", { class: "stage", "aria-labelledby": "stage-1" },
    element("h4", { id: "stage-1" }, "Stage 1 ", element("span", { class: "quiet" }, "any finding")),
    element(
      "p", { class: finding.present ? "verdict present" : "verdict" },
      element("span", { class: "number" }, probability),
      element("span", { class: "words" },
        element("strong", {}, finding.present ? "Finding" : "No finding"),
        finding.present ? `reaches the threshold of ${threshold}` : `below the threshold of ${threshold}`),
    ),
    bar(finding, "tall"),
    element("p", { class: "axis", "aria-hidden": "true" }, element("span", {}, "0"), element("span", {}, "1")),
    strip(finding.percentiles),
    sure(finding),
  );
}

/** The conformal call and the percentiles in words; null for archives without them. */
function sure({ call, percentiles }) {
  if (!call) return null;
  const parts = [`Called ${call}`, percentiles && inWords(percentiles)].filter(Boolean);
  return element("p", { class: "quiet sure" }, `${parts.join("; ")}.`);
}

function stage2(report, does) {
  const rows = inOrder(report.diseases);
  const present = rows.filter(([, score]) => score.present).length;
  const found = report.routed ? `${present} of ${rows.length} findings present` : `which of ${rows.length} findings`;
  const section = element(
    "section", { class: "stage", "aria-labelledby": "stage-2" },
    element("h4", { id: "stage-2" }, "Stage 2 ", element("span", { class: "quiet" }, found)),
  );
  if (!report.routed) {
    const { probability, threshold } = shown(report.finding);
    section.append(element("p", { class: "skipped" }, element("strong", {}, "Skipped. "),
      `Stage 1's probability, ${probability}, is below its threshold of ${threshold}, `
      + "so the second model was not asked. That is no statement on any of the 14."));
    return section;
  }
  section.append(
    element("p", { class: "note" }, "Choose one for its heatmap", legend(rows.some(([, score]) => score.percentiles))),
    element("ul", { class: "findings" }, ...rows.map(([name, score]) => element("li", {}, row(name, score, does)))),
  );
  return section;
}

/** Present ones first, then by probability. */
export function inOrder(diseases) {
  return Object.entries(diseases).sort(([, a], [, b]) => b.present - a.present || b.probability - a.probability);
}

function legend(stands) {
  return element(
    "span", { class: "legend", "aria-hidden": "true" },
    element("span", {}, "probability"), element("span", {}, element("span", { class: "tick-sample" }), " threshold"),
    ...(stands ? [
      element("span", {}, element("span", { class: "ring sample" }), " among films without it"),
      element("span", {}, element("span", { class: "dot sample" }), " with it"),
    ] : []),
  );
}

function row(name, score, does) {
  const { probability, threshold } = shown(score);
  const [kind, tag, verdict] = score.present
    ? ["finding present", "tag present", "present"] : ["finding", "unseen", "not present"];
  const button = element(
    "button", { type: "button", class: kind, "aria-pressed": "false", "data-finding": name, title: "Heatmap" },
    element("span", { class: "name" }, words(name)),
    element("span", { class: tag }, verdict),
    bar(score),
    element("span", { class: "value" }, probability),
    element("span", { class: "threshold" }, element("span", { class: "unseen" }, "threshold"), ` ${threshold}`),
    score.call ? standing(score) : null,
  );
  button.addEventListener("click", () => does.onFinding(name));
  return button;
}

/** The strip, and beside it the call where it says something else than the threshold does. */
function standing({ present, call, percentiles }) {
  const told = call === (present ? "present" : "absent");
  return element(
    "span", { class: "standing" },
    strip(percentiles),
    element("span", { class: told ? "unseen" : "call" }, told ? `called ${call}` : call),
    percentiles && inWords(percentiles) ? element("span", { class: "unseen" }, inWords(percentiles)) : null,
  );
}

function facts(film) {
  const { binary, disease } = film.report.models;
  const models = binary === disease ? `Models ${binary}` : `Models ${binary} and ${disease}`;
  return element("p", { class: "quiet facts" }, `${models} · read in ${film.seconds.toFixed(1)} s`);
}
