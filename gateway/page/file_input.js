/** Films come in: dropped, pasted or chosen. */

import { byId } from "./element.js";

/** Calls `take` with an array of files, folders opened. */
export function acceptFiles(take) {
  const chooser = byId("chooser");
  for (const button of document.querySelectorAll("[data-choose]")) {
    button.addEventListener("click", () => chooser.click());
  }
  chooser.addEventListener("change", () => {
    if (chooser.files.length) take([...chooser.files]);
    chooser.value = "";
  });
  document.addEventListener("paste", (event) => {
    const files = [...event.clipboardData.files];
    if (files.length) take(files);
  });
  let inside = 0; // dragenter and dragleave come for every element that is crossed
  const mark = (by) => {
    inside = Math.max(0, inside + by);
    document.body.toggleAttribute("data-dropping", inside > 0);
  };
  document.addEventListener("dragenter", (event) => { if (event.dataTransfer.types.includes("Files")) mark(1); });
  document.addEventListener("dragleave", () => mark(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    mark(-inside);
    const files = await dropped(event.dataTransfer);
    if (files.length) take(files);
  });
}

async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  return (await Promise.all(entries.map(filesIn))).flat();
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  for (;;) { // readEntries gives at most a hundred at a time
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return files;
    files.push(...(await Promise.all(some.map(filesIn))).flat());
  }
}
