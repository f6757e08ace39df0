/** Films to the service, and its answers; where it holds as many as it may, the film waits and goes again. */

import { askForKey, forget } from "./key.js";

const TRIES = 60; // at the service's own Retry-After: some minutes, more than a restart of the models takes
const SILENT_TRIES = 4;
const SILENT_WAIT = 3; // seconds
const FILM = "application/octet-stream";
const NO_KEY = "The service reads films for those who have a key.";
const OLD_KEY = "The key is no longer good: it was revoked, or the service has new ones.";

/** A film that got no answer, and whether it makes sense to send it again. */
export class Refused extends Error {
  constructor(title, detail, again = false) {
    super(detail);
    this.title = title;
    this.again = again;
  }
}

/**
 * Posts a film's file to `path`.
 * @param {(seconds: number, why: string) => void} later is told of every wait
 * @returns {Promise<Response>} of status 200
 * @throws {Refused} for good
 */
export async function post(path, file, { signal, later = () => {} } = {}) {
  let silent = 0;
  let fault = "";
  for (let attempt = 1; ; attempt += 1) {
    const key = await askForKey(fault);
    if (!key) throw new Refused("No key", NO_KEY, true);
    const response = await send(path, file, key, FILM, signal);
    if (response?.ok) return response;
    if (response?.status === 401) {
      forget(key);
      fault = OLD_KEY;
      continue;
    }
    const problem = response ? await problemOf(response) : await silence(file);
    const wait = response ? Number(response.headers.get("Retry-After")) : SILENT_WAIT;
    silent = response ? 0 : silent + 1;
    if (!wait || attempt >= TRIES || silent >= SILENT_TRIES) throw problem;
    later(wait, problem.title);
    await pause(wait * (1 + Math.random() / 4), signal);
  }
}

/**
 * Posts a small document, once.
 * @returns {Promise<object>} the service's own
 * @throws {Refused}
 */
export async function say(path, document) {
  for (let fault = ""; ; fault = OLD_KEY) {
    const key = await askForKey(fault);
    if (!key) throw new Refused("No key", NO_KEY, true);
    const response = await send(path, JSON.stringify(document), key, "application/json");
    if (!response) throw new Refused("No answer", "The service does not answer. Is it running?", true);
    if (response.ok) return response.json();
    if (response.status !== 401) throw await problemOf(response);
    forget(key);
  }
}

async function send(path, body, key, kind, signal) {
  const headers = { Authorization: `Bearer ${key}`, "Content-Type": kind };
  try {
    return await fetch(path, { method: "POST", body, headers, signal });
  } catch (fault) {
    if (signal?.aborted) throw fault;
    return null;
  }
}

async function problemOf(response) {
  try {
    const { title, detail } = await response.json();
    return new Refused(title, detail, response.status >= 500 || response.status === 429 || response.status === 408);
  } catch {
    return new Refused("Not read", `The service answered with status ${response.status}.`, true);
  }
}

/** No answer at all: because of the file, or of the service? */
async function silence(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return new Refused("No answer", "The service does not answer. Is it running?", true);
  } catch {
    throw new Refused("File gone", "The file was moved, changed or deleted since it was added.");
  }
}

function pause(seconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, seconds * 1000);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}
