// The scrollbar of a long log. Browsers limit the height of an element (Chromium: 33 million pixels), and positions of
// tens of millions of pixels are inexact. So the scrollbar of a log that is higher than MOST is compressed, except near
// the first and the last line: there one pixel of the scrollbar is one pixel of the log.

const MOST = 4_000_000;
const EDGE = 1_000_000;

/** Return the height of the scrolled area for a log of `real` pixels. */
export function areaOf(real) {
  return Math.min(real, MOST);
}

/** Return the scroll position for a pixel of the log. */
export function scrollOf(pixel, real) {
  if (real <= MOST || pixel <= EDGE) return pixel;
  if (pixel >= real - EDGE) return MOST - (real - pixel);
  return EDGE + ((pixel - EDGE) * (MOST - 2 * EDGE)) / (real - 2 * EDGE);
}

/** Return the pixel of the log at a scroll position: the inverse of `scrollOf`. */
export function pixelOf(scroll, real) {
  if (real <= MOST || scroll <= EDGE) return scroll;
  if (scroll >= MOST - EDGE) return real - (MOST - scroll);
  return EDGE + ((scroll - EDGE) * (real - 2 * EDGE)) / (MOST - 2 * EDGE);
}
