"use strict";
const body = document.querySelector("tbody");
const heads = [...document.querySelectorAll("th")];
const grades = [...document.querySelectorAll("button[data-grade]")];

// The key that a row is sorted by: the number of a cell, or its text. A missing number is larger than any other.
function key(row, column) {
  const cell = row.cells[column];
  if (cell.dataset.value === undefined) return cell.textContent.toLowerCase();
  return cell.dataset.value === "" ? Infinity : Number(cell.dataset.value);
}

for (const button of document.querySelectorAll("button[data-column]")) button.onclick = () => {
  const column = Number(button.dataset.column), head = heads[column];
  const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
  for (const other of heads) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", sign === 1 ? "ascending" : "descending");
  const rows = [...body.rows].map(row => [key(row, column), row]);
  rows.sort((a, b) => sign * (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
  body.append(...rows.map(pair => pair[1]));
};

// Show the rows that hold the text of the field and are of the pressed grade; "" is every grade.
const field = document.getElementById("filter");
function filter() {
  const wanted = field.value.toLowerCase();
  const grade = grades.find(button => button.getAttribute("aria-pressed") === "true")?.dataset.grade ?? "";
  for (const row of body.rows) {
    const isGrade = grade === "" || row.dataset.grade === grade;
    row.hidden = !isGrade || !row.textContent.toLowerCase().includes(wanted);
  }
}

// Filter once typing pauses: a folder may have thousands of rows.
let waiting = 0;
field.oninput = () => {
  clearTimeout(waiting);
  waiting = setTimeout(filter, 120);
};
for (const button of grades) button.onclick = () => {
  for (const other of grades) other.setAttribute("aria-pressed", String(other === button));
  filter();
};
