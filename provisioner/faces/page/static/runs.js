// The list of runs: say how many are selected.

const chosen = document.getElementById("chosen");

function count() {
  const number = document.querySelectorAll("input[name=run]:checked").length;
  if (chosen) chosen.textContent = number === 1 ? "1 run is selected." : `${number} runs are selected.`;
}

document.addEventListener("change", (event) => {
  if (event.target.matches?.("input[name=run]")) count();
});
document.getElementById("stop")?.addEventListener("toggle", count);
