// The list of jobs: a click on a bar of a history strip opens its run. The job's page has links to the same runs.

/** Pixels of a bar with the gap after it, as in charts/strip.py. */
const STEP = 7;

/** Return the run of the bar under the pointer, or "". The newest run is on the right. */
function runAt(event) {
  const strip = event.target.closest("svg[data-runs]");
  if (!strip) return "";
  const fromRight = Math.floor((strip.getBoundingClientRect().right - event.clientX) / STEP);
  return strip.dataset.runs.split(" ")[fromRight] ?? "";
}

document.addEventListener("click", (event) => {
  const run = runAt(event);
  if (!run) return;
  if (event.ctrlKey || event.metaKey) window.open(`/run/${run}`, "_blank", "noopener");
  else location.assign(`/run/${run}`);
});

document.addEventListener("pointermove", (event) => {
  const strip = event.target.closest?.("svg[data-runs]");
  if (strip) strip.classList.toggle("on-bar", Boolean(runAt(event)));
});
