// The log panel of a run: stream, attempt and rank, follow and pause, search, permalinks to lines, wrapping.

import { linesOf, parameters } from "./log_lines.js";
import { LogSearch } from "./log_search.js";
import { LogView } from "./log_view.js";

const NUMBER = new Intl.NumberFormat("en");
/** `#output:L12` or `#output:L12-L20`. */
const ADDRESS = /^#(system|setup|output):L(\d{1,12})(?:-L(\d{1,12}))?$/;
/** Lines that are shown above the line of a permalink. */
const BEFORE = 10;

class Panel {
  constructor(panel) {
    this.panel = panel;
    this.path = panel.dataset.log;
    this.scroller = panel.querySelector(".log-scroll");
    this.follower = panel.querySelector(".log-follow");
    this.state = panel.querySelector(".log-state");
    this.where = panel.querySelector(".log-where");
    this.message = panel.querySelector(".log-message");
    this.link = panel.querySelector(".log-link");
    this.wrapping = panel.querySelector(".log-wrap");
    this.places = panel.querySelector(".log-places");
    const { stream, attempt, rank } = panel.dataset;
    this.place = { stream, attempt: Number(attempt) || null, rank: Number(rank) };
    /** Whether the newest stream and attempt are shown, because the address names none. */
    this.newest = panel.dataset.newest === "true";
    this.search = new LogSearch(panel, this.path, {
      shown: (line) => this.view?.showHit(line),
      named: (line) => this.markLine(line, false, true),
      first: () => this.view.list.anchor().line + 1,
    });
    this.hydrate();
    this.listen();
    panel.classList.add("ready");
  }

  /** Take over the lines that the server rendered. */
  hydrate() {
    const { first, total, over, tail } = this.panel.dataset;
    const rows = linesOf(this.scroller.querySelectorAll(".log-rows li"));
    const asked = this.asked();
    if (asked && asked.place.stream !== this.place.stream) {
      this.open(asked.place, asked.lines);
      return;
    }
    this.make();
    const page = { first: Number(first) - 1, total: Number(total), over: over === "true", rows };
    if (asked) this.view.marked = asked.lines;
    const from = new URLSearchParams(location.search).get("first") ?? first;
    if (asked) this.view.begin(page, asked.lines[0] - 1);
    else if (tail === "true") this.view.begin(page);
    else this.view.begin(page, Number(from) - 1, 0);
    if (this.search.input.value) this.search.submit(1);
  }

  make() {
    this.view?.close();
    this.scroller.classList.remove("tail");
    this.view = new LogView(this.scroller, this.path, this.place, {
      changed: () => this.changed(),
      told: (text) => (this.message.textContent = text),
    });
    this.search.moveTo(this.place);
  }

  /** Show another place: stream, attempt, rank. */
  open(place, lines = null) {
    this.place = place;
    this.view?.close();
    this.scroller.querySelector(".log-rows").replaceChildren();
    this.make();
    this.view.open(lines);
    for (const link of this.places.querySelectorAll("a")) {
      const { by } = link.closest("[data-by]").dataset;
      const value = placeOf(link.href, place)[by];
      link.href = `?${parameters(by === "attempt" ? { ...place, attempt: value, rank: 0 } : { ...place, [by]: value })}`;
      if (value === place[by]) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    const query = parameters(place);
    this.panel.querySelector(".log-raw").href = `${this.path}/log/raw?${query}`;
    query.set("here", location.pathname);
    if (this.places.dataset.live) this.places.dataset.live = `${this.path}/log/parts/places?${query}`;
    for (const [name, value] of Object.entries(place)) {
      const field = this.search.form.elements[name];
      if (field) field.value = value;
    }
  }

  /** Return the place and the lines that the address names, or null. */
  asked() {
    const found = ADDRESS.exec(location.hash);
    if (!found) return null;
    const [one, other] = [Number(found[2]), Number(found[3] ?? found[2])];
    const lines = [Math.max(1, Math.min(one, other)), Math.max(1, one, other)];
    return { place: { ...this.place, stream: found[1] }, lines };
  }

  listen() {
    this.follower.addEventListener("click", () => this.view.follow());
    this.wrapping.addEventListener("click", () => this.wrap(!this.scroller.classList.contains("wrap")));
    this.wrapping.setAttribute("aria-pressed", String(this.scroller.classList.contains("wrap")));
    this.link.addEventListener("click", () => this.copyLink());
    this.panel.addEventListener("click", (event) => this.clicked(event));
    this.panel.addEventListener("change", (event) => {
      const form = event.target.closest(".log-places form");
      if (form) this.choose({ ...this.place, ...numbers(new FormData(form)) });
    });
    this.scroller.addEventListener("keydown", (event) => this.pressed(event));
    window.addEventListener("hashchange", () => this.readAddress());
    window.addEventListener("popstate", () => this.readAddress());
    // live.js has replaced the list of streams, attempts and ranks.
    this.places.addEventListener("part", () => this.placesChanged());
  }

  clicked(event) {
    if (event.ctrlKey || event.metaKey || event.button) return;
    const link = event.target.closest("a[href]");
    if (!link) return;
    if (link.closest(".log-places")) {
      event.preventDefault();
      this.choose(placeOf(link.href, this.place));
    } else if (ADDRESS.test(new URL(link.href).hash) && link.closest("li")) {
      event.preventDefault();
      const line = Number(ADDRESS.exec(new URL(link.href).hash)[2]);
      if (link.closest(".log-hits")) this.view.showHit(line);
      else this.markLine(line, event.shiftKey);
    }
  }

  /** Show a place that the user chose. */
  choose(place) {
    this.newest = false;
    const query = this.addressQuery({ ...place, first: null });
    history.pushState(null, "", `?${query}`);
    this.open(place);
  }

  /** Return the address's parameters with these changes. */
  addressQuery(changes) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null) query.delete(name);
      else query.set(name, String(value));
    }
    return query;
  }

  /**
   * Mark a line, or with `more` all lines from the marked one to it, and name them in the address. With `move`, show
   * the line too.
   */
  markLine(line, more, move = false) {
    const from = more && this.view.marked ? this.view.marked[0] : line;
    const lines = [Math.min(from, line), Math.max(from, line)];
    this.view.marked = lines;
    if (move) this.view.goTo(...lines);
    else {
      this.view.pause();
      this.view.mark();
    }
    const first = Math.max(1, lines[0] - BEFORE);
    const hash = `#${this.place.stream}:L${lines[0]}${lines[1] > lines[0] ? `-L${lines[1]}` : ""}`;
    history.replaceState(null, "", `?${this.addressQuery({ ...this.place, first })}${hash}`);
    this.changed();
  }

  readAddress() {
    const query = new URLSearchParams(location.search);
    this.newest = !["stream", "attempt", "rank"].some((name) => query.has(name));
    const place = placeOf(this.newest ? `?${this.newestQuery()}` : location.href, this.place);
    const asked = this.asked();
    if (asked) place.stream = asked.place.stream;
    if (!same(place, this.place)) this.open(place, asked?.lines);
    else if (asked) this.view.goTo(...asked.lines);
  }

  async copyLink() {
    try {
      await navigator.clipboard.writeText(location.href);
      this.message.textContent = "Link copied.";
    } catch {
      // Browsers allow it only over https and on this computer.
      this.message.textContent = "The address bar has the link to these lines.";
    }
  }

  wrap(on) {
    this.wrapping.setAttribute("aria-pressed", String(on));
    document.cookie = `log_wrap=${on ? 1 : 0}; path=/; max-age=31536000; samesite=strict`;
    this.view.list.wrap(on, this.view.marked ? this.view.marked[0] - 1 : null);
  }

  pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Home") this.view.list.goTo(0);
    else if (event.key === "End") this.view.follow();
    else return;
    event.preventDefault();
  }

  /** The server's list of streams and attempts changed: show the newest one if the user chose none. */
  placesChanged() {
    if (!this.newest || !this.view.following) return;
    const place = placeOf(`?${this.newestQuery()}`, this.place);
    if (same(place, this.place)) return;
    if (place.attempt !== this.place.attempt) this.message.textContent = `Attempt ${place.attempt} began.`;
    this.open(place);
  }

  newestQuery() {
    return this.places.querySelector("[data-newest]").dataset.newest;
  }

  /** Show what is visible, and whether the log is followed. */
  changed() {
    const { view } = this;
    if (!view) return;
    const { total } = view.list;
    this.panel.classList.toggle("no-lines", total === 0);
    const digits = String(Math.max(4, String(total).length));
    if (this.scroller.dataset.digits !== digits) this.scroller.dataset.digits = digits;
    if (total) {
      const seen = view.list.visible();
      this.where.textContent = `${NUMBER.format(seen.first + 1)}–${NUMBER.format(seen.last + 1)} of ${NUMBER.format(total)}`;
    } else this.where.textContent = "";
    const live = !view.over;
    const state = view.over ? "complete" : !total ? "waiting" : view.following ? "live" : "paused";
    this.state.textContent = state[0].toUpperCase() + state.slice(1);
    this.state.dataset.state = state;
    this.follower.hidden = view.following || total === 0;
    const more = view.unseen ? ` (${NUMBER.format(view.unseen)} new)` : "";
    this.follower.querySelector("span").textContent = live ? `Jump to live${more}` : "Jump to the end";
    this.link.hidden = !view.marked;
    this.search.highlight();
  }
}

function placeOf(href, place) {
  const query = new URL(href, location.href).searchParams;
  return {
    stream: query.get("stream") ?? place.stream,
    attempt: Number(query.get("attempt") ?? place.attempt) || null,
    rank: Number(query.get("rank") ?? place.rank),
  };
}

function numbers(fields) {
  const found = [...fields].map(([name, value]) => [name, Number(value)]);
  return Object.fromEntries(found.filter(([name]) => name === "attempt" || name === "rank"));
}

function same(one, other) {
  return one.stream === other.stream && one.attempt === other.attempt && one.rank === other.rank;
}

for (const panel of document.querySelectorAll("[data-log]")) new Panel(panel);
