// Orders and filters the channels of a layer. Everything else on these pages works without script.
"use strict";

(() => {
  const list = document.querySelector(".units");
  const order = document.getElementById("order");
  const status = document.getElementById("status");
  const shown = document.getElementById("shown");
  if (!list || !order || !status) return;

  const units = [...list.querySelectorAll(".unit")];
  const chosenFigure = (unit) => {
    const chosen = document.querySelector("input[name=kind]:checked");
    return unit.querySelector(chosen ? `.f${chosen.id.replace("kind-", "")}` : "figure");
  };
  const figureOf = (unit, name) => {
    const value = Number.parseFloat(chosenFigure(unit)?.dataset[name]);
    return Number.isNaN(value) ? -Infinity : value; // what has no number comes last
  };

  function arrange() {
    const by = order.value;
    const key = new Map(units.map((unit) => [unit, by === "channel" ? -Number(unit.dataset.channel) : figureOf(unit, by)]));
    const sorted = [...units].sort((a, b) => key.get(b) - key.get(a) || a.dataset.channel - b.dataset.channel);
    list.append(...sorted);
    let count = 0;
    for (const unit of units) {
      unit.hidden = status.value !== "" && !unit.querySelector(`figure[data-status="${status.value}"]`);
      count += unit.hidden ? 0 : 1;
    }
    shown.textContent = status.value ? `${count} of ${units.length}` : "";
  }

  for (const control of document.querySelectorAll(".scripted")) control.hidden = false;
  for (const control of document.querySelectorAll(".controls")) control.addEventListener("change", arrange);
})();
