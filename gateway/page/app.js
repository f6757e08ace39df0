/** The page: its parts, and how they hear of each other. */

import { announce } from "./announce.js";
import { download } from "./download.js";
import { byId } from "./element.js";
import { agree } from "./feedback.js";
import { acceptFiles } from "./file_input.js";
import { keepFocus } from "./focus.js";
import { followPointers } from "./gestures.js";
import { heatmapOf } from "./heatmap.js";
import { askForKey, takeKeyFromAddress } from "./key.js";
import { shown, words } from "./numbers.js";
import { forgetPictures, pictureOf } from "./pictures.js";
import { warningsOf } from "./quality.js";
import { drawReport, markFinding } from "./report.js";
import { isSynthetic } from "./screenshot.js";
import { listenForKeys, viewerActions } from "./shortcuts.js";
import { followTheme } from "./theme.js";
import { Viewer } from "./viewer.js";
import { Visit } from "./visit.js";
import { Worklist } from "./worklist.js";

const HINT = "It shows what moved the model to its answer, not where disease is.";
const EMPTY = "It is empty: nothing on this film raises the model's score of this finding.";

const visit = new Visit();
const worklist = new Worklist(visit);
const viewer = new Viewer();
let film = null; // the one that is looked at
let heatmapFinding = null; // the finding whose heatmap is on it

const state = (text) => { byId("viewer-state").textContent = text; };
const opacity = () => Number(byId("opacity").value) / 100;

async function open(chosen) {
  film = chosen;
  clearHeatmap();
  viewer.show(null);
  drawFilmReport();
  byId("corner-film").textContent = film.name;
  state("Loading the film…");
  try {
    const picture = await pictureOf(film);
    if (film !== chosen) { picture.close(); return; }
    state("");
    viewer.show(picture);
    byId("corner-film").textContent = `${film.name}\n${picture.width} × ${picture.height} px`;
    drawDownloads();
  } catch (fault) {
    if (film === chosen) state(fault.title ? `${fault.title}. The film cannot be shown.` : "The film cannot be shown.");
  }
}

function drawFilmReport() {
  drawReport(film, { onFinding: toggleHeatmap, onAgain: tryAgain });
  if (heatmapFinding) markFinding(heatmapFinding, "shown");
  drawDownloads();
}

function tryAgain() {
  byId("viewer").focus(); // the button goes
  visit.again(film);
  open(film);
}

function drawDownloads() {
  byId("downloads").hidden = film?.state !== "read";
  for (const button of byId("downloads").querySelectorAll("button")) {
    button.disabled = button.dataset.download !== "json" && !viewer.picture;
  }
}

/** On a phone the film is far from what was touched. `scrollIntoView` would have the next Tab start at the viewer. */
function scrollToViewer() {
  const { top, bottom } = byId("viewer").getBoundingClientRect();
  scrollBy(0, Math.min(top, Math.max(0, bottom - innerHeight)));
}

function clearHeatmap() {
  if (byId("overlay").contains(document.activeElement)) document.querySelector(".finding[aria-pressed=true]")?.focus();
  heatmapFinding = null;
  viewer.showHeatmap(null);
  markFinding(null, null);
  byId("overlay").hidden = true;
}

async function toggleHeatmap(finding) {
  if (heatmapFinding === finding) {
    clearHeatmap();
    announce(`Heatmap of ${words(finding)} off`);
    return;
  }
  const on = film;
  clearHeatmap();
  heatmapFinding = finding;
  markFinding(finding, "coming");
  const stays = () => film === on && heatmapFinding === finding;
  try {
    const { canvas, empty } = await heatmapOf(on, finding);
    if (!stays()) return;
    viewer.showHeatmap(canvas, opacity());
    markFinding(finding, "shown");
    state("");
    byId("overlay-name").textContent = words(finding);
    byId("overlay-hint").textContent = empty ? EMPTY : HINT;
    byId("overlay").hidden = false;
    scrollToViewer();
    announce(`Heatmap of ${words(finding)} on. ${empty ? EMPTY : HINT}`);
  } catch (fault) {
    if (!stays()) return;
    clearHeatmap();
    state(fault.message);
    announce(fault.message);
  }
}

function close() {
  film = null;
  clearHeatmap();
  viewer.show(null);
  forgetPictures();
  worklist.current = null;
  drawReport(null);
  drawDownloads();
  byId("corner-film").textContent = "";
  state("");
  byId("room").toggleAttribute("data-empty", true);
  document.querySelector(".welcome [data-choose]").focus();
}

function announceProgress(changed) {
  const counted = visit.films.length > 1 ? `${visit.settled} of ${visit.films.length}. ` : "";
  if (changed.state === "read") {
    const { finding } = changed.report;
    const verdict = `${finding.present ? "finding" : "no finding"}, ${shown(finding).probability}`;
    announce([`${counted}${changed.name}: ${verdict}`, ...warningsOf(changed.report)].join(". "));
  } else if (changed.state === "refused") announce(`${counted}${changed.name}: ${changed.refused.title}`);
}

visit.addEventListener("added", ({ detail: films }) => {
  byId("room").toggleAttribute("data-empty", false);
  announce(films.length === 1 ? `${films[0].name} added` : `${films.length} films added`);
  if (!film) worklist.choose(films[0]);
});
visit.addEventListener("changed", ({ detail: changed }) => {
  if (changed === film) drawFilmReport();
  if (changed.report && isSynthetic(changed.report)) byId("synthetic").hidden = false;
  announceProgress(changed);
});
visit.addEventListener("cleared", close);
worklist.addEventListener("chosen", ({ detail }) => { open(detail); scrollToViewer(); });
byId("clear").addEventListener("click", () => visit.clear());

viewer.addEventListener("moved", () => {
  const { view } = viewer;
  byId("corner-view").textContent = viewer.picture
    ? `${Math.round(viewer.scale * 100)}%\nW ${Math.round(view.width)}  L ${Math.round(view.centre)}` : "";
  byId("invert").setAttribute("aria-pressed", String(view.inverted));
});
byId("opacity").addEventListener("input", () => {
  byId("opacity-value").textContent = `${byId("opacity").value}%`;
  if (viewer.heatmap) viewer.showHeatmap(viewer.heatmap.canvas, opacity());
});

const actions = {
  ...viewerActions(viewer),
  heatmap: () => (document.querySelector(".finding[aria-pressed=true]") ?? document.querySelector(".finding"))?.click(),
  agree,
  next: () => worklist.step(1),
  previous: () => worklist.step(-1),
  add: () => byId("chooser").click(),
  sheet: () => byId("sheet").showModal(),
};
listenForKeys(actions);
followPointers(byId("viewer"), viewer);
for (const button of document.querySelectorAll("[data-do]")) {
  button.addEventListener("click", () => actions[button.dataset.do]());
}
for (const button of document.querySelectorAll("[data-drag]")) {
  button.addEventListener("click", () => {
    viewer.dragging = button.dataset.drag;
    for (const one of document.querySelectorAll("[data-drag]")) {
      one.setAttribute("aria-pressed", String(one === button));
    }
    byId("viewer").dataset.drag = viewer.dragging;
  });
}
for (const button of document.querySelectorAll("[data-download]")) {
  button.addEventListener("click", () => {
    download(button.dataset.download, film, viewer, viewer.heatmap && heatmapFinding);
  });
}
byId("open-sheet").addEventListener("click", actions.sheet);

const here = /^(localhost|127\.|\[::1\])/.test(location.hostname);
fetch("health/ready").then((answer) => answer.json()).then(({ keeps_films: kept }) => {
  const there = `Films go to ${location.host}, which gave you this page, and nowhere else.`;
  if (here) byId("private").textContent = `Nothing leaves this machine, and ${kept ? "the service keeps films for a time" : "no film is kept"}.`;
  else byId("private").textContent = `${there} ${kept ? "It keeps them for a time" : "None is kept"}.`;
}).catch(() => {});

takeKeyFromAddress();
followTheme();
keepFocus();
acceptFiles((files) => visit.add(files));
askForKey();
