// One place of a log on the screen: the virtual list with its lines, which follow a live log.

import { BLOCK, LogList } from "./log_list.js";
import { Lines } from "./log_lines.js";

/** Milliseconds between two looks at a live log; and longer ones after so many looks without a new line. */
const LOOKS = [
  [60, 500],
  [300, 1000],
  [Infinity, 2000],
];
/** Milliseconds that the scrollbar must rest before lines far away are read. */
const DRAGGED = 60;
/** Milliseconds before a failed read is tried again. */
const AGAIN = 1500;

export class LogView {
  /** `changed` is called after each change of what is visible or known; `told` with a message, "" to clear it. */
  constructor(scroller, path, place, { changed, told }) {
    Object.assign(this, { scroller, place, changed, told });
    this.over = true;
    /** The marked lines: [first, last], counted from 1; null if there are none. */
    this.marked = null;
    this.current = null;
    this.quiet = 0;
    this.unseen = 0;
    /** Whether more was written between the last two looks than fits on the screen. */
    this.burst = false;
    this.list = new LogList(scroller, {
      moved: () => this.moved(),
      scrolled: () => this.scrolled(),
    });
    this.lines = new Lines(path, place, {
      got: (page) => this.got(page),
      failed: (error) => this.failed(error),
    });
    this.listeners = new AbortController();
    const { signal } = this.listeners;
    document.addEventListener("visibilitychange", () => document.hidden || this.look(), { signal });
    // New lines must not move text that the user is selecting.
    document.addEventListener("selectionchange", () => this.selecting() && this.pause(), { signal });
  }

  close() {
    this.listeners.abort();
    this.list.close();
    this.lines.close();
    clearTimeout(this.timer);
  }

  /** Show a page: the line `line` and those around it, or the log's end. Read the rest from then on. */
  begin(page, line = null, offset = undefined) {
    const { list } = this;
    [this.over, list.total, list.following] = [page.over, page.total, line === null];
    if (line !== null) list.goTo(line, offset);
    list.put(page.first, page.rows, page.total);
    this.schedule();
  }

  /** Show a place of which nothing is known yet: the lines from `lines[0]` to `lines[1]`, or its end. */
  async open(lines) {
    try {
      const first = lines ? Math.max(0, Math.floor(lines[0] / BLOCK) - 1) * BLOCK : null;
      const page = await this.lines.page(first, lines ? 3 * BLOCK : this.screens());
      this.marked = lines;
      this.begin(page, lines ? lines[0] - 1 : null);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.told(error.message);
      if (error.passing) this.timer = setTimeout(() => this.open(lines), AGAIN);
    }
  }

  got(page) {
    this.told("");
    this.over = page.over;
    // While the log grows, an answer may be older than another one.
    this.list.put(page.first, page.rows, page.over ? page.total : Math.max(page.total, this.list.total));
    this.mark();
    this.changed();
  }

  failed(error) {
    this.told(error.message);
    if (error.passing) setTimeout(() => this.load(), AGAIN);
  }

  moved() {
    // Lines far away are read only when the scrollbar rests: a drag passes millions of lines.
    this.load(this.list.near ? 0 : DRAGGED);
    this.mark();
    this.changed();
  }

  scrolled() {
    if (this.list.following) this.unseen = 0;
    this.changed();
  }

  /** Read the lines that the list needs and lacks: first the visible ones. */
  load(delay = 0) {
    const { list } = this;
    if (!list.total) return;
    const seen = list.visible();
    const parts = [];
    for (let index = list.from; index < list.to; index++) {
      const known = list.known(index);
      if (list.lacks(index)) parts.push([index, index * BLOCK + known, list.expected(index) - known]);
    }
    const hidden = ([index]) => Number((index + 1) * BLOCK <= seen.first || index * BLOCK > seen.last);
    this.lines.want(parts.sort((one, other) => hidden(one) - hidden(other) || one[0] - other[0]), delay);
  }

  /** Return a number of lines at the log's end that fills two screens, from the beginning of a block on. */
  screens() {
    return Math.ceil((2 * this.list.height) / this.list.line) + BLOCK;
  }

  get following() {
    return this.list.following;
  }

  follow() {
    this.unseen = 0;
    this.list.follow();
    this.quiet = 0;
    this.look();
    this.changed();
  }

  pause() {
    this.list.following = false;
    this.changed();
  }

  selecting() {
    const selection = document.getSelection();
    return this.list.following && !selection.isCollapsed && this.scroller.contains(selection.anchorNode);
  }

  schedule() {
    clearTimeout(this.timer);
    if (this.over) return;
    const [, every] = LOOKS.find(([looks]) => this.quiet < looks);
    this.timer = setTimeout(() => this.look(), every);
  }

  /** Read what was written since the last look. */
  async look() {
    clearTimeout(this.timer);
    if (this.over || this.looking || document.hidden) return;
    this.looking = true;
    try {
      const { list } = this;
      const before = list.total;
      // The last line may have grown. Of a burst, only the end is read; what is before it, when the user scrolls there.
      const ask = (last) => this.lines.page(last ? null : Math.max(0, before - 1), this.screens());
      let page = await ask(this.burst && list.following);
      if (list.following && page.first + page.rows.length < page.total) page = await ask(true);
      this.burst = page.total - before > this.screens();
      this.quiet = page.total > before ? 0 : this.quiet + 1;
      if (!list.following) this.unseen += Math.max(0, page.total - before);
      this.got(page);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.told(error.message);
      this.quiet += 1;
      if (!error.passing) this.over = true;
    } finally {
      this.looking = false;
    }
    this.schedule();
  }

  /** Show a line (counted from 1), and mark it and those up to `last`. */
  goTo(line, last = line) {
    this.marked = [line, last];
    this.list.goTo(line - 1);
  }

  /** Show the class `marked` on the marked lines, and `current` on the hit of a search that is shown. */
  mark() {
    const { list } = this;
    const [first, last] = this.marked ?? [0, -1];
    for (let number = list.from * BLOCK; number < Math.min(list.total, list.to * BLOCK); number++) {
      const row = list.lineElement(number);
      row?.classList.toggle("marked", first <= number + 1 && number + 1 <= last);
      row?.classList.toggle("current", number + 1 === this.current);
    }
  }

  /** Show a hit of a search (counted from 1); null to show none. */
  showHit(line) {
    this.current = line;
    if (line === null) this.mark();
    else this.list.goTo(line - 1);
  }
}
