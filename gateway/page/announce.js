import { byId } from "./element.js";

const QUIET = 400; // ms: of many films that are read at once, the last is said

let timer;

/** Says `text` to those who listen to the page instead of looking at it. */
export function announce(text) {
  clearTimeout(timer);
  timer = setTimeout(() => { byId("announcer").textContent = text; }, QUIET);
}
