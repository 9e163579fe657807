// The table of classes: ordered by any column, searched by name. Without it the table stands as it is.
"use strict";

for (const table of document.querySelectorAll(".by-class")) {
  const page = table.closest("main");
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const value = (row, column) => {
    const cell = row.cells[column];
    const text = cell.dataset.value ?? cell.textContent.replaceAll(",", "");
    const number = Number.parseFloat(text);
    return column === 0 || Number.isNaN(number) ? cell.textContent.trim().toLowerCase() : number;
  };
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const order = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      body.append(...[...rows].sort((a, b) => (rising ? 1 : -1) * order(value(a, column), value(b, column))));
    });
  });
  const field = page.querySelector(".find-class");
  field.closest(".scripted").hidden = false;
  field.addEventListener("input", () => {
    const text = field.value.trim().toLowerCase();
    for (const row of rows) row.hidden = !row.cells[0].textContent.toLowerCase().includes(text);
  });
}
