/** The keyboard: one table, from which keys act and the sheet is written. */

import { byId, element } from "./element.js";

const STEP = 48; // CSS px
const GREY = 8; // grey values

/** [keys, what they do, in words] */
const TABLE = [
  [["+", "="], "zoomIn", "zoom in"],
  [["-", "_"], "zoomOut", "zoom out"],
  [["0"], "fit", "fit"],
  [["1"], "actual", "actual size"],
  [["ArrowLeft", "ArrowRight", "ArrowUp", "ArrowDown"], "move", "move the film (in the viewer)"],
  [["["], "narrower", "narrower window: more contrast"],
  [["]"], "wider", "wider window: less contrast"],
  [["{", ";"], "darker", "higher level: darker"],
  [["}", "'"], "brighter", "lower level: brighter"],
  [["i"], "invert", "invert"],
  [["r"], "reset", "reset view and window"],
  [["h"], "heatmap", "heatmap on or off"],
  [["y"], "agree", "agree with the report"],
  [["n", "j"], "next", "next film"],
  [["p", "k"], "previous", "previous film"],
  [["a"], "add", "add films"],
  [["?"], "sheet", "this sheet"],
];
const ARROWS = { ArrowLeft: "←", ArrowRight: "→", ArrowUp: "↑", ArrowDown: "↓" };
const TYPING = "input:not([type=range], [type=checkbox]), textarea, select, dialog *";

/** What tools and keys do to the viewer. */
export function viewerActions(viewer) {
  return {
    zoomIn: () => viewer.zoom(1.25),
    zoomOut: () => viewer.zoom(1 / 1.25),
    fit: () => viewer.fit(),
    actual: () => viewer.actual(),
    move: (key) => viewer.pan(...{
      ArrowLeft: [STEP, 0], ArrowRight: [-STEP, 0], ArrowUp: [0, STEP], ArrowDown: [0, -STEP],
    }[key]),
    narrower: () => viewer.changeWindow(-2 * GREY, 0),
    wider: () => viewer.changeWindow(2 * GREY, 0),
    darker: () => viewer.changeWindow(0, GREY),
    brighter: () => viewer.changeWindow(0, -GREY),
    invert: () => viewer.invert(),
    reset: () => viewer.reset(),
  };
}

export function listenForKeys(actions) {
  byId("sheet-keys").append(...TABLE.map(([keys, , words]) => element(
    "tr", {}, element("th", { scope: "row" }, ...keysOf(keys)), element("td", {}, words),
  )));
  document.addEventListener("keydown", (event) => {
    const withAlt = event.ctrlKey || event.metaKey || event.altKey;
    // Many keyboards have their brackets on AltGr.
    if ((withAlt && !event.getModifierState("AltGraph")) || event.target.closest(TYPING)) return;
    const inViewer = event.target.closest("#viewer");
    if (!inViewer && !byId("keys-everywhere").checked) return;
    const row = TABLE.find(([keys]) => keys.includes(event.key));
    if (!row || (row[1] === "move" && !inViewer)) return;
    event.preventDefault();
    actions[row[1]](event.key);
  });
}

function keysOf(keys) {
  return keys.flatMap((key) => [element("kbd", {}, ARROWS[key] ?? key), " "]);
}
