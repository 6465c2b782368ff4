// Everything can be read without this. It shows, below the picture, what all nodes were like at the row that one looks
// at, and lets the arrow keys go from row to row.
(function () {
  "use strict";
  var rows = Array.from(document.querySelectorAll(".row"));
  var detail = document.getElementById("detail");
  var names = Array.from(document.querySelectorAll(".cast b")).map(function (name) { return name.textContent; });
  var first = new Map();
  document.querySelectorAll(".before dt").forEach(function (name) {
    first.set(Number(name.dataset.node), name.nextElementSibling.textContent);
  });
  function line(text, changed) {
    var paragraph = document.createElement("p");
    paragraph.textContent = text;
    if (changed) { paragraph.className = "changed"; }
    detail.appendChild(paragraph);
  }
  function told(row) { return row.querySelector("title").textContent.split("\nstate: "); }
  function show(row) {
    rows.forEach(function (other) { other.classList.toggle("here", other === row); });
    var states = new Map(first);
    rows.slice(0, rows.indexOf(row) + 1).forEach(function (past) {
      var state = told(past)[1];
      if (state) { states.set(Number(past.dataset.node), state); }
    });
    detail.replaceChildren();
    line(told(row)[0], false);
    names.forEach(function (name, node) {
      var own = told(row)[1] ? Number(row.dataset.node) === node : false;
      if (states.has(node)) { line(name + ": " + states.get(node), own); }
    });
    detail.hidden = false;
  }
  rows.forEach(function (row, index) {
    row.addEventListener("focus", function () { show(row); });
    row.addEventListener("mouseenter", function () { show(row); });
    row.addEventListener("keydown", function (event) {
      var step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      var next = step ? rows[index + step] : undefined;
      if (event.key === "Escape") { detail.hidden = true; row.blur(); }
      if (next) { event.preventDefault(); next.focus(); next.scrollIntoView({ block: "center", inline: "nearest" }); }
    });
  });
}());
