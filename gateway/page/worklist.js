/** The list of this visit's films. */

import { bar } from "./bar.js";
import { byId, element } from "./element.js";
import { shown } from "./numbers.js";

/** Says "chosen" with the film. */
export class Worklist extends EventTarget {
  #rows = new Map(); // film -> li
  #list = byId("films");
  #visit;
  #due = false;
  current = null;

  constructor(visit) {
    super();
    this.#visit = visit;
    this.#list.addEventListener("keydown", (event) => this.#walk(event));
    for (const change of ["added", "changed", "cleared"]) visit.addEventListener(change, () => this.#draw());
  }

  choose(film) {
    this.current = film;
    this.#draw();
    this.dispatchEvent(new CustomEvent("chosen", { detail: film }));
  }

  /** Goes `by` films down the list. */
  step(by) {
    const films = this.#visit.inOrder();
    const film = films[films.indexOf(this.current) + by];
    if (film) this.choose(film);
  }

  #walk(event) {
    const buttons = [...this.#list.querySelectorAll("button.film")];
    const at = buttons.indexOf(document.activeElement);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (to === undefined || at < 0) return;
    event.preventDefault();
    buttons[to]?.focus();
  }

  /** Once a frame at most, however many films change. */
  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => this.#redraw());
  }

  #redraw() {
    this.#due = false;
    const films = this.#visit.inOrder();
    for (const [film, row] of this.#rows) if (!films.includes(film)) { row.remove(); this.#rows.delete(film); }
    for (const film of films) this.#update(film);
    this.#sort(films);
    this.#count(films);
  }

  #update(film) {
    const row = this.#rows.get(film) ?? element("li", {}, this.#button(film));
    this.#rows.set(film, row);
    const button = row.firstElementChild;
    const current = film === this.current;
    button.tabIndex = current ? 0 : -1;
    button.toggleAttribute("aria-current", current);
    if (current) button.setAttribute("aria-current", "true");
    const signature = `${film.state} ${film.wait?.seconds}`;
    if (row.dataset.drawn === signature) return;
    row.dataset.drawn = signature;
    row.dataset.state = film.state;
    button.replaceChildren(...content(film));
  }

  #button(film) {
    const button = element("button", { type: "button", class: "film" });
    button.addEventListener("click", () => this.choose(film));
    return button;
  }

  /** A row that moves would lose the focus. */
  #sort(films) {
    const focused = document.activeElement;
    films.forEach((film, at) => {
      const row = this.#rows.get(film);
      if (this.#list.children[at] !== row) this.#list.insertBefore(row, this.#list.children[at] ?? null);
    });
    if (focused !== document.activeElement && this.#list.contains(focused)) focused.focus({ preventScroll: true });
    if (!films.includes(this.current)) this.#list.querySelector("button.film")?.setAttribute("tabindex", "0");
  }

  #count(films) {
    const done = this.#visit.settled;
    const progress = byId("progress");
    progress.max = Math.max(1, films.length);
    progress.value = done;
    progress.toggleAttribute("data-done", done === films.length);
    byId("count").textContent = done === films.length ? `${films.length}` : `${done} of ${films.length}`;
  }
}

function content(film) {
  const name = element("span", { class: "name", title: film.name }, film.name);
  if (film.state === "read") return [name, ...score(film.report)];
  if (film.state === "refused") {
    return [name, element("span", { class: "why" }, `${film.refused.title}: ${film.refused.message}`)];
  }
  const { seconds, why } = film.wait ?? {};
  const text = { waiting: "waiting", reading: "reading…", later: `${why}: again in ${seconds} s` }[film.state];
  return [name, element("span", { class: "state" }, text)];
}

function score({ finding }) {
  const value = element("span", { class: "value" }, shown(finding).probability);
  const [kind, words] = finding.present ? ["tag present", "finding"] : ["tag", "none"];
  const verdict = element("span", { class: kind }, words);
  return [verdict, bar(finding), value];
}
