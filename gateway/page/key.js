/** The API key: from the address (#key=...), or asked for once; kept until the tab is closed. */

import { byId } from "./element.js";

const STORED = "cxr-key";

let asking = null;

/** Takes the key out of the address, where history and shoulders would see it. */
export function takeKeyFromAddress() {
  const given = new URLSearchParams(location.hash.slice(1)).get("key");
  if (!given) return;
  sessionStorage.setItem(STORED, given);
  history.replaceState(null, "", location.pathname + location.search);
}

export const knownKey = () => sessionStorage.getItem(STORED);

/** No longer good, unless another has been given meanwhile. */
export function forget(key) {
  if (knownKey() === key) sessionStorage.removeItem(STORED);
}

/** The key; asks where none is known, once for all who wait. Null where the person would rather not. */
export function askForKey(fault = "") {
  if (knownKey()) return Promise.resolve(knownKey());
  asking ??= ask(fault);
  return asking;
}

function ask(fault) {
  const dialog = byId("key-dialog");
  const input = byId("key-input");
  byId("key-fault").textContent = fault;
  input.value = "";
  input.setAttribute("aria-invalid", String(Boolean(fault)));
  dialog.showModal();
  input.focus();
  return new Promise((resolve) => {
    // At once: the dialog's own event comes later, and who asks in between would be told of this dialog's end.
    const close = () => {
      dialog.close();
      asking = null;
      resolve(knownKey());
    };
    byId("key-cancel").onclick = close;
    byId("key-form").onsubmit = async (event) => {
      event.preventDefault();
      const key = input.value.trim();
      const wrong = key ? await refusal(key) : "Type or paste a key.";
      if (wrong) {
        byId("key-fault").textContent = wrong;
        input.setAttribute("aria-invalid", "true");
        input.focus();
        return;
      }
      sessionStorage.setItem(STORED, key);
      close();
    };
    dialog.oncancel = (event) => {  // Escape
      event.preventDefault();
      close();
    };
  });
}

/** Why the key is not taken; empty where it is. The service looks at the key before it misses the film. */
async function refusal(key) {
  if (!/^[\x21-\x7e]+$/.test(key)) return "A key has no spaces and no special letters.";
  try {
    const response = await fetch("v1/reports", { method: "POST", headers: { Authorization: `Bearer ${key}` } });
    return response.status === 401 ? "The service does not know this key, or it was revoked." : "";
  } catch {
    return "The service does not answer. Is it running?";
  }
}
