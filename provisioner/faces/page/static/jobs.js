// The forms of a job's pages: more rows for variables, and the way from a problem to its line in the recipe.

const add = document.querySelector("[data-add-pair]");

/** Add a row like the last one, with numbers and labels of its own. */
function addPair() {
  const rows = add.closest("fieldset").querySelectorAll(".pair");
  const number = rows.length + 1;
  const row = rows[rows.length - 1].cloneNode(true);
  for (const input of row.querySelectorAll("input")) {
    input.id = `${input.name}${number}`;
    input.value = "";
  }
  for (const label of row.querySelectorAll("label")) {
    const kind = label.htmlFor.startsWith("name") ? "name" : "value";
    label.htmlFor = `${kind}${number}`;
    label.textContent = `${kind === "name" ? "Name" : "Value"} of variable ${number}`;
  }
  rows[rows.length - 1].after(row);
  row.querySelector("input").focus();
}

if (add) {
  add.hidden = false;
  add.addEventListener("click", addPair);
}

/** Select a line of the recipe, and scroll to it. */
function goTo(area, number) {
  const lines = area.value.split("\n");
  const begin = lines.slice(0, number - 1).reduce((sum, line) => sum + line.length + 1, 0);
  area.focus();
  area.setSelectionRange(begin, begin + (lines[number - 1] ?? "").length);
  area.scrollTop = ((number - 1) / lines.length) * area.scrollHeight - area.clientHeight / 3;
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-line]");
  const area = document.getElementById("recipe");
  if (!link || !area) return;
  event.preventDefault();
  goTo(area, Number(link.dataset.line));
});
