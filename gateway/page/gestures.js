/** Mouse and touch on the viewer: drag, right or shift drag, wheel, pinch, double click. */

const WHEEL = 0.0016; // zoom per px of wheel, as a natural logarithm
const GREY = 0.6; // grey values per px of drag

/** @param {HTMLElement} port @param {import("./viewer.js").Viewer} viewer */
export function followPointers(port, viewer) {
  const fingers = new Map(); // pointer id -> { x, y }
  let windowing = false;

  port.addEventListener("contextmenu", (event) => event.preventDefault());
  port.addEventListener("dblclick", () => viewer.fitOrActual());

  port.addEventListener("wheel", (event) => {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 24 : 1;
    viewer.zoom(Math.exp(-event.deltaY * lines * WHEEL * (event.ctrlKey ? 5 : 1)), within(port, event));
  }, { passive: false });

  port.addEventListener("pointerdown", (event) => {
    port.setPointerCapture(event.pointerId);
    fingers.set(event.pointerId, within(port, event));
    windowing = event.button === 2 || event.shiftKey || viewer.dragging === "window";
    port.dataset.dragging = windowing ? "window" : "pan";
  });

  port.addEventListener("pointermove", (event) => {
    const from = fingers.get(event.pointerId);
    if (!from) return;
    const to = within(port, event);
    const [across, down] = [to.x - from.x, to.y - from.y];
    fingers.set(event.pointerId, to);
    if (fingers.size === 2) {
      const other = [...fingers].find(([id]) => id !== event.pointerId)[1];
      pinch(viewer, from, to, other);
    } else if (windowing) viewer.changeWindow(across * GREY, down * GREY);
    else viewer.pan(across, down);
  });

  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    port.addEventListener(end, (event) => {
      fingers.delete(event.pointerId);
      if (!fingers.size) delete port.dataset.dragging;
    });
  }
}

function pinch(viewer, from, to, other) {
  const apart = (finger) => Math.max(1, Math.hypot(finger.x - other.x, finger.y - other.y));
  const middle = { x: (to.x + other.x) / 2, y: (to.y + other.y) / 2 };
  viewer.pan((to.x - from.x) / 2, (to.y - from.y) / 2);
  viewer.zoom(apart(to) / apart(from), middle);
}

function within(port, event) {
  const box = port.getBoundingClientRect();
  return { x: event.clientX - box.left, y: event.clientY - box.top };
}
