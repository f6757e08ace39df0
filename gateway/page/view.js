/**
 * How a film is looked at. Pure functions: a view in, a view out.
 *
 * A view: `zoom` (1: the film fits its port), `x` and `y` (the film's point in the port's middle, as shares of the
 * film), and the window: grey values `centre - width / 2` to `centre + width / 2` become black to white
 * (DICOM PS3.3, C.11.2.1.2), `inverted` or not. Film and port: `width` and `height` in px.
 */

export const WHOLE = Object.freeze({ zoom: 1, x: 0.5, y: 0.5, centre: 127.5, width: 255, inverted: false });

const LARGEST = 16; // screen px per film px
const SMALLEST = 0.5; // of the fitting film

const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

export const fitScale = (film, port) => Math.min(port.width / film.width, port.height / film.height);

/** Screen px per film px, and the film's top left corner in the port. */
export function placeOf(view, film, port) {
  const scale = fitScale(film, port) * view.zoom;
  return {
    scale,
    left: port.width / 2 - view.x * film.width * scale,
    top: port.height / 2 - view.y * film.height * scale,
  };
}

/** Moves the film by screen px; its edge never passes the port's middle. */
export function pan(view, film, port, across, down) {
  const { scale } = placeOf(view, film, port);
  return {
    ...view,
    x: clamp(view.x - across / (film.width * scale), 0, 1),
    y: clamp(view.y - down / (film.height * scale), 0, 1),
  };
}

/** Zooms by `factor`; the film's point under `at` (px in the port, else its middle) stays there. */
export function zoomBy(view, film, port, factor, at = { x: port.width / 2, y: port.height / 2 }) {
  const fit = fitScale(film, port);
  const zoom = clamp(view.zoom * factor, SMALLEST, Math.max(1, LARGEST / fit));
  const before = placeOf(view, film, port);
  const pull = (1 - before.scale / (fit * zoom)) / before.scale;
  return {
    ...view,
    zoom,
    x: clamp(view.x + ((at.x - port.width / 2) * pull) / film.width, 0, 1),
    y: clamp(view.y + ((at.y - port.height / 2) * pull) / film.height, 0, 1),
  };
}

export const fit = (view) => ({ ...view, zoom: WHOLE.zoom, x: WHOLE.x, y: WHOLE.y });

/** One film pixel per `ratio` screen px. */
export const actual = (view, film, port, ratio) => zoomBy(view, film, port, ratio / placeOf(view, film, port).scale);

export function changeWindow(view, wider, higher) {
  return { ...view, width: clamp(view.width + wider, 2, 510), centre: clamp(view.centre + higher, 0, 255) };
}

/** Grey to shown grey, 256 entries. */
export function shades(view) {
  const low = view.centre - view.width / 2;
  return Uint8ClampedArray.from({ length: 256 }, (_, value) => {
    const shade = ((value - low) / view.width) * 255;
    return view.inverted ? 255 - clamp(shade, 0, 255) : shade;
  });
}

export const changesGrey = (view) =>
  view.inverted || view.centre !== WHOLE.centre || view.width !== WHOLE.width;
