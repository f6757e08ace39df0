/** The focus stays where a person can see it: what has it may go (removed, hidden, disabled) with a change of the page. */

import { byId } from "./element.js";

let last = null; // what had it last, until a person pressed on nothing

export function keepFocus() {
  document.addEventListener("focusin", ({ target }) => { last = target; });
  document.addEventListener("pointerup", () => { if (document.activeElement === document.body) last = null; });
  new MutationObserver(restore).observe(document.body, {
    subtree: true, childList: true, attributeFilter: ["data-empty", "disabled", "hidden", "open"],
  });
}

function restore() {
  if (!last || stands(last)) return;
  const gone = last;
  last = null;
  if ([gone, document.body].includes(document.activeElement)) inPlaceOf(gone).focus({ preventScroll: true });
}

const stands = (one) => one.isConnected && !one.disabled && one.checkVisibility({ visibilityProperty: true });

/** The same finding of the film that is looked at now, else where films are looked at, or come in. */
function inPlaceOf({ dataset: { finding } }) {
  return (finding && document.querySelector(`.finding[data-finding="${finding}"]`))
    || (byId("room").hasAttribute("data-empty") ? document.querySelector(".welcome [data-choose]") : byId("viewer"));
}
