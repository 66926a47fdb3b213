/** Styles of which there is a sample. Written by `python -m serve_app.tools.samples`. */
export const SAMPLES = new Set([
  "creature",
  "flat",
  "food",
  "icon",
  "item",
  "none",
  "pixel_character",
  "pixel_icon",
  "prop",
  "silhouette",
  "tile",
  "vehicle",
  "weapon"
]);
