/** The films of this visit: what is known of each, and their order. */

import { Queue } from "./queue.js";
import { Refused, post } from "./service.js";

const AT_ONCE = 4; // the browser keeps two of its six connections for the film that is looked at

/** @typedef {"waiting" | "reading" | "later" | "read" | "refused"} State */

class Film {
  /** @type {State} */ state = "waiting";
  report = null;
  refused = null;
  wait = null; // { seconds, why } while the service holds as many as it may
  seconds = null; // from added to read
  judged = ""; // what the reader said of it, once that is noted
  #added = performance.now();

  constructor(id, file) {
    this.id = id;
    this.file = file;
    this.name = file.name || "pasted film";
    this.leaving = new AbortController();
  }

  finish() { this.seconds = (performance.now() - this.#added) / 1000; }

  again() { this.#added = performance.now(); }
}

/** Says "added", "changed" (one film, in `detail`) and "cleared". */
export class Visit extends EventTarget {
  films = [];
  #queue = new Queue(AT_ONCE);
  #next = 1;

  add(files) {
    const films = files.map((file) => new Film(this.#next++, file));
    this.films.push(...films);
    this.#say("added", films);
    for (const film of films) this.#read(film);
  }

  again(film) {
    film.again();
    film.refused = null;
    film.judged = "";
    this.#become(film, "waiting");
    this.#read(film);
  }

  clear() {
    for (const film of this.films) film.leaving.abort();
    this.films = [];
    this.#say("cleared");
  }

  /** Read ones, most suspicious first; then those that wait, as they came; then those that were refused. */
  inOrder() {
    const rank = { read: 0, reading: 1, later: 1, waiting: 1, refused: 2 };
    const suspicion = (film) => film.report?.finding.probability ?? 0;
    return [...this.films].sort((a, b) => rank[a.state] - rank[b.state] || suspicion(b) - suspicion(a) || a.id - b.id);
  }

  get settled() { return this.films.filter((film) => film.state === "read" || film.state === "refused").length; }

  async #read(film) {
    const { signal } = film.leaving;
    try {
      await this.#queue.run(async () => {
        signal.throwIfAborted();
        this.#become(film, "reading");
        const later = (seconds, why) => { film.wait = { seconds, why }; this.#become(film, "later"); };
        film.report = await (await post("v1/reports", film.file, { signal, later })).json();
      });
      film.finish();
      this.#become(film, "read");
    } catch (fault) {
      if (signal.aborted) return;
      film.refused = fault instanceof Refused ? fault : new Refused("Not read", String(fault), true);
      this.#become(film, "refused");
    }
  }

  #become(film, state) {
    film.state = state;
    this.#say("changed", film);
  }

  #say(what, detail) { this.dispatchEvent(new CustomEvent(what, { detail })); }
}
