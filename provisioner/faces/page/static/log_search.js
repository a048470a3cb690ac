// Search in one place of a log: the server searches, in steps; hits are listed, visited in order, and highlighted.

import { nodesOf, parameters, read } from "./log_lines.js";

/** Hits of one request; hits whose lines are kept; and hits that the list shows. */
const STEP = 200;
const MOST = 10_000;
const LISTED = 500;
/** The name of the highlight in the style sheet. */
const HIGHLIGHT = "log-hit";

export class LogSearch {
  /**
   * `shown` is called with a line (counted from 1) when a hit is visited, and with null when the search is over; `named`
   * when the user typed the line's number. `first` returns the first visible line.
   */
  constructor(panel, path, { shown, named, first }) {
    Object.assign(this, { path, shown, named, first });
    this.form = panel.querySelector(".log-find");
    this.input = this.form.elements.q;
    this.exact = this.form.elements.case;
    this.count = panel.querySelector(".log-found");
    this.hits = panel.querySelector(".log-hits");
    this.steps = [...panel.querySelectorAll("[data-step]")];
    this.found = [];
    this.at = -1;
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit(1);
    });
    this.input.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && event.shiftKey) {
        event.preventDefault();
        this.submit(-1);
      } else if (event.key === "Escape") {
        this.input.value = "";
        this.clear();
      }
    });
    // A browser's own button empties the field.
    this.input.addEventListener("input", () => this.input.value || this.clear());
    this.exact.addEventListener("change", () => this.input.value && this.submit(1));
    for (const button of this.steps) button.addEventListener("click", () => this.step(Number(button.dataset.step)));
  }

  /** Search in another place from now on. */
  moveTo(place) {
    this.place = place;
    this.clear();
  }

  /** Search for what was typed; or visit the next hit if that was searched for already. */
  submit(step) {
    const text = this.input.value;
    const key = `${this.exact.checked} ${text}`;
    const line = /^:(\d{1,12})$/.exec(text);
    if (line) this.named(Math.max(1, Number(line[1])));
    else if (!text) this.clear();
    else if (key === this.key) this.step(step);
    else this.search(text, key);
  }

  clear() {
    this.stopping?.abort();
    [this.found, this.at, this.key, this.pattern] = [[], -1, null, null];
    this.count.textContent = "";
    this.hits.hidden = true;
    this.hits.open = false;
    this.hits.querySelector("ol").replaceChildren();
    this.steps.forEach((button) => (button.disabled = true));
    this.highlight();
    this.shown(null);
  }

  async search(text, key) {
    this.clear();
    this.key = key;
    this.pattern = new RegExp(text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"), this.exact.checked ? "gu" : "giu");
    this.stopping = new AbortController();
    const { signal } = this.stopping;
    this.highlight();
    this.count.textContent = "Searching…";
    const from = this.first();
    let after = null;
    try {
      do {
        const query = parameters(this.place, { q: text, ignore_case: !this.exact.checked, after, limit: STEP });
        const answer = await read(`${this.path}/find`, query, signal);
        this.add(answer.hits);
        after = answer.next;
        const part = after === null ? null : Math.floor((100 * answer.searched) / Math.max(1, answer.size));
        this.tell(part);
        // The first hit at or after the visible lines; until the search is over, a hit before them only waits.
        if (this.at < 0) {
          const next = this.found.findIndex((line) => line >= from);
          if (next >= 0) this.visit(next);
        }
      } while (after !== null && this.found.length < MOST);
      if (this.at < 0 && this.found.length) this.visit(0);
      this.tell(null);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.key = null;
      this.count.textContent = error.message;
    }
  }

  add(hits) {
    const list = this.hits.querySelector("ol");
    for (const hit of hits) {
      if (list.childElementCount < LISTED) list.append(this.row(hit));
      this.found.push(hit.line);
    }
    this.steps.forEach((button) => (button.disabled = !this.found.length));
    this.hits.hidden = !this.found.length;
    this.highlight();
  }

  row(hit) {
    const row = document.createElement("li");
    const link = document.createElement("a");
    link.href = `#${this.place.stream}:L${hit.line}`;
    link.textContent = hit.line;
    const text = document.createElement("code");
    text.append(nodesOf(hit.html));
    row.append(link, text);
    return row;
  }

  tell(part) {
    const number = this.found.length.toLocaleString("en");
    const many = `${number}${this.found.length >= MOST ? "+" : ""}`;
    const place = this.at < 0 ? many : `${(this.at + 1).toLocaleString("en")} of ${many}`;
    if (part !== null) this.count.textContent = `${place}, ${part} % searched`;
    else this.count.textContent = this.found.length ? place : "Not found";
  }

  step(by) {
    if (!this.found.length) return;
    this.visit((this.at + by + this.found.length) % this.found.length);
    this.tell(null);
  }

  visit(at) {
    this.at = at;
    this.shown(this.found[at]);
  }

  /** Highlight the text in the rows that are in the document. */
  highlight() {
    if (!globalThis.CSS?.highlights) return;
    const ranges = [];
    const rows = this.pattern ? document.querySelectorAll(".log-rows code") : [];
    for (const row of rows) ranges.push(...rangesOf(row, this.pattern));
    if (ranges.length) CSS.highlights.set(HIGHLIGHT, new Highlight(...ranges));
    else CSS.highlights.delete(HIGHLIGHT);
  }
}

/** Return the ranges of a line's text that match. The line's colours split its text into several nodes. */
function rangesOf(line, pattern) {
  const text = line.textContent;
  const ranges = [];
  let nodes = null;
  for (const match of text.matchAll(pattern)) {
    nodes ??= textsOf(line);
    const range = new Range();
    range.setStart(...pointOf(nodes, match.index, false));
    range.setEnd(...pointOf(nodes, match.index + match[0].length, true));
    ranges.push(range);
    if (ranges.length === 100) break;
  }
  return ranges;
}

function textsOf(line) {
  const walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
  const nodes = [];
  let before = 0;
  while (walker.nextNode()) {
    nodes.push([walker.currentNode, before]);
    before += walker.currentNode.length;
  }
  return nodes;
}

/** Return the node and the offset in it for a character of the line. */
function pointOf(nodes, at, end) {
  const [node, before] = nodes.findLast(([, start]) => (end ? start < at : start <= at));
  return [node, at - before];
}
