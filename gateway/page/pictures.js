/** Films as pictures, fetched when they are looked at; the last few are kept as files, none as pixels. */

import { post } from "./service.js";

const KEPT = 6;

const files = new Map(); // film id -> PNG, the oldest first

/** The film as the model gets it, before it is made square. @returns {Promise<ImageBitmap>} grey, full resolution */
export async function pictureOf(film) {
  const file = files.get(film.id) ?? await (await post("v1/films", film.file, { signal: film.leaving.signal })).blob();
  files.delete(film.id);
  files.set(film.id, file);
  if (files.size > KEPT) files.delete(files.keys().next().value);
  return createImageBitmap(file, { colorSpaceConversion: "none" });
}

export const forgetPictures = () => files.clear();
