// Read the lines of one place of a log (stream, attempt, rank) from the server.

/** A request failed; `status` is the status of the answer, 0 without one. */
export class Failed extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }

  /** Whether the same request can succeed later. */
  get passing() {
    return this.status === 0 || this.status === 429 || this.status >= 500;
  }
}

/** Return the parameters of a place; unset ones are left out. */
export function parameters(place, more = {}) {
  const given = Object.entries({ ...place, ...more }).filter(([, value]) => value !== null && value !== undefined);
  return new URLSearchParams(given.map(([name, value]) => [name, String(value)]));
}

/** Return the JSON answer to a GET request. */
export async function read(path, query, signal) {
  let answer;
  try {
    answer = await fetch(`${path}?${query}`, { signal, headers: { "X-Script": "1" }, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failed("The server cannot be reached. Trying again.");
  }
  if (answer.ok) return answer.json();
  if (answer.status === 401) throw new Failed("The session has ended. Log in again.", 401);
  const page = new DOMParser().parseFromString(await answer.text().catch(() => ""), "text/html");
  const said = page.querySelector(".trouble")?.textContent;
  throw new Failed(said || `The server answered with status ${answer.status}.`, answer.status);
}

/** Return the nodes of HTML that the server made; it escaped everything in them. */
export function nodesOf(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

/**
 * Return the lines of rows. A row about missing bytes becomes a part of the line after it, or of the last line, because
 * each line has the same height.
 */
export function linesOf(rows) {
  const lines = [];
  let gaps = [];
  for (const row of rows) {
    if (!row.id) gaps.push(row);
    else {
      row.querySelector("code").prepend(...gaps.map(gapOf));
      // The Tab key leads out of the log, and not through hundreds of numbers; `:12` in the search names a line too.
      row.querySelector("a").tabIndex = -1;
      gaps = [];
      lines.push(row);
    }
  }
  lines.at(-1)?.querySelector("code").append(...gaps.map(gapOf));
  return lines;
}

function gapOf(row) {
  const gap = document.createElement("span");
  gap.className = "gap";
  gap.textContent = row.textContent.trim();
  return gap;
}

/** Blocks that are read at the same time. */
const MOST = 4;

/** Reads lines in blocks: those on the screen first, none twice. */
export class Lines {
  /** `got` is called with each answer: { first, total, over, rows }, with `first` counted from 0. */
  constructor(path, place, { got, failed }) {
    Object.assign(this, { path, place, got, failed });
    this.stopping = new AbortController();
    this.wanted = [];
    this.reading = new Set();
  }

  close() {
    this.stopping.abort();
    clearTimeout(this.later);
  }

  /** Read lines from `first` on; the last lines if it is null. */
  async page(first, count) {
    const query = parameters(this.place, { first: first === null ? null : first + 1, count });
    const { html, ...found } = await read(`${this.path}/lines`, query, this.stopping.signal);
    return { ...found, first: found.first - 1, rows: linesOf(nodesOf(html).querySelectorAll("li")) };
  }

  /** Read these parts, in this order: [block, first line, number of lines]. Forget what was wanted before. */
  want(parts, delay = 0) {
    this.wanted = parts.filter(([block]) => !this.reading.has(block));
    clearTimeout(this.later);
    if (delay) this.later = setTimeout(() => this.next(), delay);
    else this.next();
  }

  next() {
    while (this.wanted.length && this.reading.size < MOST) {
      const [[block, first, count]] = this.wanted;
      const parts = [this.wanted.shift()];
      let lines = count;
      // One request for neighbours.
      while (this.wanted[0]?.[1] === first + lines && parts.length < MOST) {
        lines += this.wanted[0][2];
        parts.push(this.wanted.shift());
      }
      parts.forEach(([each]) => this.reading.add(each));
      this.readPart(block, first, lines).finally(() => {
        parts.forEach(([each]) => this.reading.delete(each));
        if (!this.stopping.signal.aborted) this.next();
      });
    }
  }

  async readPart(block, first, count) {
    try {
      const page = await this.page(first, count);
      if (!page.rows.length && page.total > first) throw new Failed("Lines are missing. Trying again.");
      this.reading.delete(block);
      this.got(page);
    } catch (error) {
      if (error.name !== "AbortError") this.failed(error);
    }
  }
}
