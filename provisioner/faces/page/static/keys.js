// Keys for the whole page: see templates/parts/keys.html. A key is ignored while a text field has the focus, while Ctrl,
// Alt or Meta is held, and if another script has handled the event. The dialog can turn the keys off (WCAG 2.1.4).

const OFF = "provision-keys-off";
/** The pages by the second key after g. */
const PAGES = { j: "/jobs", r: "/runs", q: "/queue", m: "/machines", u: "/usage", a: "/audit", t: "/tokens", d: "/docs" };
/** Milliseconds for the second key after g. */
const SECOND = 1500;
const dialog = document.getElementById("keys");
/** When g was pressed. */
let begun = -SECOND;

/** Storage may be blocked in a browser; then the keys are on. */
function stored(change) {
  try {
    if (change === true) localStorage.setItem(OFF, "1");
    if (change === false) localStorage.removeItem(OFF);
    return localStorage.getItem(OFF) === "1";
  } catch {
    return false;
  }
}

function isWriting(target) {
  return target instanceof Element && target.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable]");
}

/** The entries of the lists on this page; each has a link, which gets the focus. */
function entries() {
  const found = document.querySelectorAll("main [data-row], main tbody tr");
  return [...found].map((each) => ({ each, link: each.querySelector("a[href]") })).filter(({ each, link }) => link && each.offsetParent);
}

function move(step) {
  const all = entries();
  if (!all.length) return false;
  const at = all.findIndex(({ each }) => each.contains(document.activeElement));
  const next = at < 0 ? (step > 0 ? 0 : all.length - 1) : Math.min(all.length - 1, Math.max(0, at + step));
  all[next].link.focus();
  all[next].each.scrollIntoView({ block: "nearest" });
  return true;
}

function search() {
  const field = document.querySelector("main [data-search]");
  if (!field) return false;
  field.focus();
  field.select?.();
  return true;
}

function go(key) {
  const link = PAGES[key] && document.querySelector(`.top nav a[href="${PAGES[key]}"]`);
  if (link) location.assign(link.href);
  return Boolean(link);
}

/** An element with `data-key` is clicked by that key. */
function click(key) {
  const found = [...document.querySelectorAll("[data-key]")].find((each) => each.dataset.key === key && each.offsetParent);
  found?.click();
  return Boolean(found);
}

function used(key) {
  if (performance.now() - begun < SECOND) {
    begun = -SECOND;
    return go(key);
  }
  switch (key) {
    case "g":
      begun = performance.now();
      return true;
    case "/":
      return search();
    case "j":
      return move(1);
    case "k":
      return move(-1);
    case "?":
      dialog.showModal();
      return true;
    default:
      return click(key);
  }
}

// On the window, so that the scripts of a page, which listen on the document, come first.
addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.altKey || event.metaKey || event.isComposing) return;
  if (isWriting(event.target)) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (dialog.open || stored() || event.key.length !== 1) return;
  if (used(event.key)) event.preventDefault();
});

const on = document.getElementById("keys-on");
on.checked = !stored();
on.addEventListener("change", () => stored(!on.checked));
dialog.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
});
for (const button of document.querySelectorAll("[data-keys]")) {
  button.hidden = false;
  button.addEventListener("click", () => dialog.showModal());
}

// The theme. Without this script the button sends a form, and the server sets the same cookie.
const THEMES = { auto: "light", light: "dark", dark: "auto" };
const NAMES = { auto: "Auto", light: "Light", dark: "Dark" };
const button = document.getElementById("theme");
button?.addEventListener("click", (event) => {
  event.preventDefault();
  const chosen = button.value;
  const kept = chosen === "auto" ? "; Max-Age=0" : "; Max-Age=31536000";
  const secure = location.protocol === "https:" ? "; Secure" : "";
  document.cookie = `provision_theme=${chosen === "auto" ? "" : chosen}; Path=/; SameSite=Strict${kept}${secure}`;
  if (chosen === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = chosen;
  button.value = THEMES[chosen];
  button.querySelector("[data-name]").textContent = NAMES[chosen];
});
