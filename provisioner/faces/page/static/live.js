// Keep the live parts of a page up to date. A live part is an element with `data-live`, the address of its content, and
// `data-every`, the seconds between two requests. Requests stop while the page is hidden.

const parts = new Map();

/** Return a selector for the focused element that also matches after the part is replaced, or "". */
function focusedIn(element) {
  const active = document.activeElement;
  if (!active || !element.contains(active)) return "";
  if (active.id) return `#${CSS.escape(active.id)}`;
  if (active.matches("summary") && active.parentElement.id) return `#${CSS.escape(active.parentElement.id)} > summary`;
  const href = active.getAttribute("href");
  return href ? `a[href="${CSS.escape(href)}"]` : "";
}

/** Replace the content of a part, but keep the focus and the open <details> in it. */
function replaceContent(element, text) {
  const found = new DOMParser().parseFromString(text, "text/html");
  const open = [...element.querySelectorAll("details[open][id]")].map((each) => each.id);
  const focused = focusedIn(element);
  element.replaceChildren(...found.body.childNodes);
  for (const id of open) {
    const details = document.getElementById(id);
    if (details) details.open = true;
  }
  if (focused) element.querySelector(focused)?.focus({ preventScroll: true });
  element.dispatchEvent(new CustomEvent("part", { bubbles: true }));
}

/** A part is not replaced while the visitor selects text, writes, or has ticked a box in it. */
function isUsed(element) {
  const selection = document.getSelection();
  const selecting = selection && !selection.isCollapsed && element.contains(selection.anchorNode);
  const active = document.activeElement;
  const writing = active && element.contains(active) && active.matches("input, textarea, select");
  const ticked = element.querySelector("input[type=checkbox]:checked");
  return Boolean(selecting || writing || ticked);
}

async function refresh(element) {
  const part = parts.get(element);
  try {
    const headers = { "X-Script": "1" };
    if (part.tag) headers["If-None-Match"] = part.tag;
    const answer = await fetch(element.dataset.live, { headers, cache: "no-store" });
    if (answer.status === 401) {
      location.reload();
      return;
    }
    element.classList.toggle("stale", !answer.ok && answer.status !== 304);
    if (answer.status === 200 && !isUsed(element)) {
      replaceContent(element, await answer.text());
      part.tag = answer.headers.get("ETag") ?? "";
    }
    // The server says when nothing in the part will change any more.
    part.over = answer.headers.get("X-Over") === "1";
  } catch {
    element.classList.add("stale");
  }
}

function schedule(element) {
  const part = parts.get(element);
  const seconds = Number(element.dataset.every) || 5;
  part.timer = setTimeout(async () => {
    if (!element.isConnected) {
      parts.delete(element);
      return;
    }
    if (!document.hidden) await refresh(element);
    if (!part.over) schedule(element);
  }, seconds * 1000);
}

/** Begin to update the live parts below an element. */
export function follow(root) {
  for (const element of root.querySelectorAll("[data-live]")) {
    if (parts.has(element)) continue;
    parts.set(element, { tag: "", over: false, timer: 0 });
    schedule(element);
  }
}

document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  for (const [element, part] of parts) if (!part.over) refresh(element);
});

follow(document);
