// Copy commands: a button with `data-copy` copies that text. Blocks of code in the documentation get such a button.

/** Milliseconds for which a button shows "Copied" or "Not copied". */
const SAID = 1500;

/** Without TLS a browser has no clipboard for scripts; then a field is selected and copied. */
async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const field = document.createElement("textarea");
  field.value = text;
  field.className = "hidden-text";
  document.body.append(field);
  field.select();
  const copied = document.execCommand("copy");
  field.remove();
  if (!copied) throw new Error("the browser did not copy");
}

async function press(button) {
  const name = button.dataset.name ?? button.textContent;
  button.dataset.name = name;
  const focused = document.activeElement;
  try {
    await copy(button.dataset.copy);
    button.textContent = "Copied";
  } catch {
    button.textContent = "Not copied";
  }
  focused?.focus({ preventScroll: true });
  said.textContent = button.textContent;
  setTimeout(() => {
    button.textContent = name;
    said.textContent = "";
  }, SAID);
}

/** Screen readers read what is written here. */
const said = document.createElement("span");
said.className = "hidden-text";
said.setAttribute("role", "status");
document.body.append(said);

function show(root) {
  for (const button of root.querySelectorAll("[data-copy]")) button.hidden = false;
}

for (const block of document.querySelectorAll(".document pre")) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "quiet copy-block";
  button.dataset.copy = block.textContent.trimEnd();
  button.textContent = "Copy";
  block.append(button);
}
show(document);
document.addEventListener("part", (event) => show(event.target));
document.addEventListener("click", (event) => {
  const button = event.target instanceof Element && event.target.closest("[data-copy]");
  if (button) press(button);
});
