/** Light or dark: the system's choice, until a person has made one. */

import { byId } from "./element.js";

const PLACE = "cxr-theme";

export function followTheme() {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const draw = () => { document.documentElement.dataset.theme = chosen() ?? (dark.matches ? "dark" : "light"); };
  dark.addEventListener("change", draw);
  byId("theme").addEventListener("click", () => {
    localStorage.setItem(PLACE, document.documentElement.dataset.theme === "dark" ? "light" : "dark");
    draw();
  });
  draw();
}

const chosen = () => localStorage.getItem(PLACE);
