// The virtual list of a log: only the blocks of lines near the viewport are in the document, and the scrollbar stands
// for the whole log. Lines count from 0 here, and from 1 in addresses and in the server's answers.

import { areaOf, pixelOf, scrollOf } from "./log_scale.js";

/** Lines of a block. The server's pages begin at multiples of it too, so that no block lacks its first lines. */
export const BLOCK = 100;
/** Blocks that are kept in memory. */
const KEPT = 80;
/** Milliseconds without a scroll event after which the user has stopped scrolling. */
const REST = 150;

// A page has no `style` attributes, so the measures are in a style sheet.
const sheet = new CSSStyleSheet();
document.adoptedStyleSheets.push(sheet);

/** Return the declarations of a new rule. */
function rule(selector) {
  return sheet.cssRules[sheet.insertRule(`${selector} {}`, sheet.cssRules.length)].style;
}

const SPACE = rule(".log .log-space");
const ROWS = rule(".log .log-rows");
/** The last block has fewer lines than the others. */
const LAST = rule(".log .log-block.last");

export class LogList {
  /** `moved` is called after each change of what is visible; `scrolled` after each scroll event of the user. */
  constructor(scroller, { moved, scrolled }) {
    this.scroller = scroller;
    this.rows = scroller.querySelector(".log-rows");
    this.moved = moved;
    this.scrolled = scrolled;
    this.total = 0;
    /** Whether the end of the log stays visible when lines are added. */
    this.following = false;
    /** Whether the last scroll event was less than a few screens away from what was shown before. */
    this.near = true;
    /** The line that a jump showed, and its `offset` as in `anchor`; null after the user has scrolled. */
    this.pin = null;
    /** Blocks of lines by number, the least recently used first. Each is an `ol` with its first known lines. */
    this.blocks = new Map();
    /** The blocks in the document: from `from` to before `to`; the first begins at `top` in the scrolled area. */
    this.from = this.to = this.top = 0;
    /** The scroll position that this object set or has seen, and the height of the viewport then. */
    this.seen = this.shown = 0;
    this.widest = 0;
    this.measure();
    this.listeners = new AbortController();
    const options = { passive: true, signal: this.listeners.signal };
    scroller.addEventListener("scroll", () => this.onScroll(), options);
    this.observer = new ResizeObserver(() => this.resized());
    this.observer.observe(scroller);
  }

  /** Stop listening. */
  close() {
    this.listeners.abort();
    this.observer.disconnect();
    clearTimeout(this.resting);
  }

  get wrapped() {
    return this.scroller.classList.contains("wrap");
  }

  get height() {
    return this.scroller.clientHeight;
  }

  get count() {
    return Math.ceil(this.total / BLOCK);
  }

  /** Read the height of a line from the style sheet; `average` is the mean height of lines, which may be wrapped. */
  measure() {
    this.line = parseFloat(getComputedStyle(this.rows).lineHeight) || 20;
    this.average = this.line;
    this.width = this.scroller.clientWidth;
  }

  /** Put lines into their blocks, from line `first` on. Lines that are known are replaced only if they changed. */
  put(first, lines, total) {
    const anchor = this.anchor();
    this.total = total;
    for (const index of this.blocks.keys()) if (index >= this.count) this.drop(index);
    lines.forEach((line, at) => this.putLine(first + at, line));
    this.render(anchor);
  }

  putLine(number, line) {
    const index = Math.floor(number / BLOCK);
    if (!this.blocks.has(index)) {
      const made = document.createElement("ol");
      made.className = "log-block";
      this.blocks.set(index, made);
    }
    const block = this.blocks.get(index);
    const known = block.children[number % BLOCK];
    if (!known) {
      // A line after a gap cannot be shown at its place.
      if (block.childElementCount === number % BLOCK) block.append(line);
    } else if (known.innerHTML !== line.innerHTML) known.replaceWith(line);
  }

  drop(index) {
    this.blocks.get(index).remove();
    this.blocks.delete(index);
  }

  /** Return the element of a line; undefined if it is unknown. */
  lineElement(number) {
    return this.blocks.get(Math.floor(number / BLOCK))?.children[number % BLOCK];
  }

  /** Return the number of known lines of a block. */
  known(index) {
    return this.blocks.get(index)?.childElementCount ?? 0;
  }

  /** Return the number of lines that a block must have. */
  expected(index) {
    return Math.max(0, Math.min(BLOCK, this.total - index * BLOCK));
  }

  /** Return whether lines of this block are unknown. */
  lacks(index) {
    return this.known(index) < this.expected(index);
  }

  /** Return the first and the last line that are visible now. */
  visible() {
    const last = this.locate(Math.min(this.scroller.scrollTop - this.top + this.height - 1, this.rowsHeight() - 1));
    return { first: this.locate(this.scroller.scrollTop - this.top).line, last: Math.max(0, Math.min(last.line, this.total - 1)) };
  }

  /**
   * Return the line that stays where it is on the screen, and how many pixels its beginning is above the viewport: the
   * line of the last jump, or else the first visible one.
   */
  anchor() {
    return this.pin ?? this.locate(this.scroller.scrollTop - this.top);
  }

  /** Return the line at a pixel of the rows, and the pixel's offset in it; estimated outside of the rows. */
  locate(pixel) {
    const start = this.from * BLOCK;
    const height = this.rowsHeight();
    let line;
    let begin;
    if (!this.wrapped || pixel < 0 || pixel >= height) {
      const [from, at] = pixel >= height ? [Math.min(this.total, this.to * BLOCK), height] : [start, 0];
      const each = this.wrapped ? this.average : this.line;
      const more = Math.floor((pixel - at) / each);
      [line, begin] = [from + more, at + more * each];
    } else {
      const index = this.blockAt(pixel);
      line = index * BLOCK;
      let [low, high] = [0, this.expected(index)];
      while (high - low > 1) {
        const middle = (low + high) >> 1;
        if (this.rowTop(line + middle) <= pixel) low = middle;
        else high = middle;
      }
      line += low;
      begin = this.rowTop(line);
    }
    const inside = Math.max(0, Math.min(line, this.total - 1));
    return { line: inside, offset: inside === line ? pixel - begin : 0 };
  }

  /** Return the number of the block at a pixel of the rows. */
  blockAt(pixel) {
    const above = this.rows.getBoundingClientRect().top;
    for (let index = this.from; index < this.to - 1; index++) {
      if (this.blocks.get(index).getBoundingClientRect().bottom - above > pixel) return index;
    }
    return this.to - 1;
  }

  /** Return the pixel of the rows at which a line begins; the line's block is in the document. */
  rowTop(number) {
    if (!this.wrapped) return (number - this.from * BLOCK) * this.line;
    const block = this.blocks.get(Math.floor(number / BLOCK));
    const above = this.rows.getBoundingClientRect().top;
    const row = block.children[number % BLOCK];
    if (row) return row.getBoundingClientRect().top - above;
    const known = block.childElementCount;
    const end = known ? block.lastElementChild.getBoundingClientRect().bottom : block.getBoundingClientRect().top;
    return end - above + ((number % BLOCK) - known) * this.line;
  }

  rowsHeight() {
    if (this.wrapped) return this.rows.getBoundingClientRect().height;
    return (Math.min(this.total, this.to * BLOCK) - this.from * BLOCK) * this.line;
  }

  /** Show the blocks around the anchor, and keep the anchor's line where it is on the screen. */
  render(anchor = this.anchor(), { settle = false } = {}) {
    const { line, height, scroller } = this;
    const above = Math.ceil(height / line);
    // The rows of wrapped lines are higher than `line`, so these are always enough.
    const first = this.following ? this.total - 2 * above : anchor.line - above;
    const last = this.following ? this.total - 1 : Math.min(this.total - 1, anchor.line + 2 * above);
    this.show(Math.floor(Math.max(0, first) / BLOCK), this.total ? Math.floor(last / BLOCK) + 1 : 0);
    const [real, rows, ended] = [this.total * this.average, this.rowsHeight(), this.to === this.count];
    const area = this.from === 0 && ended ? rows : Math.max(areaOf(real), rows);
    let scroll = scroller.scrollTop;
    let top;
    if (this.following) {
      [top, scroll] = [area - rows, Math.max(0, area - height)];
    } else {
      const before = this.total ? this.rowTop(anchor.line) + anchor.offset : 0;
      top = scroll - before;
      if (this.from === 0) top = 0;
      else if (ended) top = area - rows;
      else if (settle) top = scrollOf(Math.max(0, anchor.line * this.average + anchor.offset), real) - before;
      scroll = top + before;
    }
    this.top = top;
    SPACE.height = `${area}px`;
    ROWS.top = `${top}px`;
    if (Math.abs(scroll - scroller.scrollTop) >= 0.5) scroller.scrollTop = scroll;
    this.seen = scroller.scrollTop;
    this.shown = height;
    this.moved();
  }

  /** Put these blocks into the document, and take the others out of it. */
  show(from, to) {
    for (const block of [...this.rows.children]) {
      const index = Number(block.dataset.index ?? -1);
      if (index < from || index >= to) block.remove();
    }
    let before = null;
    for (let index = to - 1; index >= from; index--) {
      let block = this.blocks.get(index);
      if (block) this.blocks.delete(index);
      else {
        block = document.createElement("ol");
        block.className = "log-block";
      }
      this.blocks.set(index, block);
      block.classList.toggle("last", index === this.count - 1);
      block.dataset.index = index;
      if (block.parentNode !== this.rows || block.nextSibling !== before) this.rows.insertBefore(block, before);
      before = block;
    }
    LAST.minHeight = `${this.expected(this.count - 1) * this.line}px`;
    [this.from, this.to] = [from, to];
    for (const index of this.blocks.keys()) {
      if (this.blocks.size <= KEPT) break;
      if (index < from || index >= to) this.drop(index);
    }
    // The width for the longest line seen stays, so that the horizontal scrollbar does not jump.
    const width = this.wrapped ? 0 : Math.max(this.widest, this.rows.scrollWidth);
    if (width !== this.widest) ROWS.minWidth = width ? `${width}px` : "";
    this.widest = width;
  }

  onScroll() {
    const { scroller, height } = this;
    const scroll = scroller.scrollTop;
    if (Math.abs(scroll - this.seen) < 1) return;
    // Not the user has scrolled, but the viewport became higher or lower.
    if (height !== this.shown) {
      this.render();
      return;
    }
    this.pin = null;
    this.following = scroll > this.seen && scroll >= scroller.scrollHeight - height - 2;
    const at = scroll - this.top;
    this.near = at > -3 * height && at < this.rowsHeight() + 2 * height;
    // The scrollbar was dragged far away: its position decides, because nothing there has been shown yet.
    const anchor = this.near ? this.anchor() : this.anchorAt(scroll);
    this.seen = scroll;
    this.render(anchor);
    this.scrolled();
    clearTimeout(this.resting);
    this.resting = setTimeout(() => this.settle(), REST);
  }

  /** Return the line at a position of the scrollbar. */
  anchorAt(scroll) {
    const pixel = pixelOf(scroll, this.total * this.average);
    const line = Math.max(0, Math.min(this.total - 1, Math.floor(pixel / this.average)));
    return { line, offset: (this.wrapped ? 0 : pixel - line * this.average) || 0 };
  }

  /** Move the scrollbar to where the visible lines belong, without moving them on the screen. */
  settle() {
    const anchor = this.anchor();
    if (this.wrapped && this.to > this.from) {
      const known = this.rowsHeight() / Math.max(1, Math.min(this.total, this.to * BLOCK) - this.from * BLOCK);
      this.average = Math.max(this.line, 0.7 * this.average + 0.3 * known);
    }
    const real = this.total * this.average;
    const belongs = scrollOf(anchor.line * this.average + anchor.offset, real);
    if (Math.abs(belongs - this.scroller.scrollTop) > this.height) this.render(anchor, { settle: true });
  }

  /** Show a line, at a third of the viewport's height or where `offset` says. */
  goTo(number, offset = -Math.floor(this.height / 3)) {
    this.following = false;
    this.near = true;
    this.pin = { line: Math.max(0, Math.min(number, this.total - 1)), offset };
    this.render(this.pin, { settle: true });
  }

  /** Show the end, and keep it visible when lines are added. */
  follow() {
    this.following = this.near = true;
    this.pin = null;
    this.render();
  }

  resized() {
    const anchor = this.anchor();
    const wider = this.scroller.clientWidth !== this.width;
    if (wider) this.measure();
    this.render(anchor, { settle: wider });
  }

  /** Switch the wrapping of long lines. The line stays where it is on the screen if it is visible, or else the first. */
  wrap(on, line = null) {
    const { first, last } = this.visible();
    const stays = line !== null && first <= line && line <= last ? line : first;
    const offset = this.scroller.scrollTop - this.top - (this.total ? this.rowTop(stays) : 0);
    this.scroller.classList.toggle("wrap", on);
    this.widest = 0;
    ROWS.minWidth = "";
    this.measure();
    if (this.following) this.render();
    else this.goTo(stays, Math.min(0, offset));
    this.settle();
  }
}
