/** The film on black. */

import { byId } from "./element.js";
import { paint } from "./paint.js";
import * as views from "./view.js";

/** Says "moved" when the view has changed. */
export class Viewer extends EventTarget {
  view = views.WHOLE;
  picture = null;
  heatmap = null; // { canvas, opacity }
  dragging = "pan"; // what a plain drag does: "pan" or "window"
  #canvas = byId("canvas");
  #context = this.#canvas.getContext("2d", { alpha: false, willReadFrequently: true });
  #due = false;

  constructor() {
    super();
    new ResizeObserver(() => this.#resize()).observe(byId("viewer"));
  }

  /** The port in canvas px: a view is the same on every screen. */
  get port() { return { width: this.#canvas.width, height: this.#canvas.height }; }

  get ratio() { return this.#canvas.width / Math.max(1, this.#canvas.clientWidth); }

  /** Screen px per film px. */
  get scale() { return this.picture ? views.placeOf(this.view, this.picture, this.port).scale : 1; }

  show(picture) {
    this.picture?.close();
    this.picture = picture;
    this.heatmap = null;
    this.setView(views.WHOLE);
  }

  showHeatmap(canvas, opacity) {
    this.heatmap = canvas && { canvas, opacity };
    this.#draw();
  }

  setView(view) {
    this.view = view;
    this.#draw();
    this.dispatchEvent(new Event("moved"));
  }

  /** Moves by CSS px. */
  pan(across, down) {
    if (!this.picture) return;
    this.setView(views.pan(this.view, this.picture, this.port, across * this.ratio, down * this.ratio));
  }

  /** Zooms about a point in CSS px from the viewer's corner, or its middle. */
  zoom(factor, at) {
    if (!this.picture) return;
    const point = at && { x: at.x * this.ratio, y: at.y * this.ratio };
    this.setView(views.zoomBy(this.view, this.picture, this.port, factor, point));
  }

  changeWindow(wider, higher) { if (this.picture) this.setView(views.changeWindow(this.view, wider, higher)); }

  fit() { this.setView(views.fit(this.view)); }

  actual() { if (this.picture) this.setView(views.actual(this.view, this.picture, this.port, 1)); }

  fitOrActual() { if (this.view.zoom === 1) this.actual(); else this.fit(); }

  invert() { this.setView({ ...this.view, inverted: !this.view.inverted }); }

  reset() { this.setView(views.WHOLE); }

  #resize() {
    const ratio = window.devicePixelRatio || 1;
    this.#canvas.width = Math.max(1, Math.round(this.#canvas.clientWidth * ratio));
    this.#canvas.height = Math.max(1, Math.round(this.#canvas.clientHeight * ratio));
    this.#paint();
    this.dispatchEvent(new Event("moved"));
  }

  #draw() {
    if (this.#due) return;
    this.#due = true;
    requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#due = false;
    this.#context.fillStyle = "#000";
    this.#context.fillRect(0, 0, this.#canvas.width, this.#canvas.height);
    if (!this.picture) return;
    paint(this.#context, this.picture, views.placeOf(this.view, this.picture, this.port), this.view, this.heatmap);
  }
}
