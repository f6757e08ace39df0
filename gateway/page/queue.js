/** Tasks that run a few at once, first come, first served. */
export class Queue {
  #free;
  #waiting = [];

  constructor(limit) { this.#free = limit; }

  /** What `task` gives, once it has its turn. */
  async run(task) {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise((turn) => this.#waiting.push(turn));
    try {
      return await task();
    } finally {
      const next = this.#waiting.shift();
      if (next) next();
      else this.#free += 1;
    }
  }
}
