// Tables whose columns sort by a press on their heads.

// columns: [{name, cell: row => node or text, key: row => number or text}]
function sortable(columns, rows, rowClass) {
  const body = make("tbody", {});
  const heads = columns.map((column, index) => make("th", { scope: "col", "aria-sort": "none" },
    make("button", { type: "button", onclick: () => sort(index) }, column.name)));
  const fill = (ordered) => body.replaceChildren(...ordered.map((row) => make("tr",
    { class: rowClass ? rowClass(row) : null }, ...columns.map((c) => cellOf(c, row)))));
  let sorted = -1, direction = 1;
  const sort = (index) => {
    direction = sorted === index ? -direction : (typeof columns[index].key(rows[0] || {}) === "string" ? 1 : -1);
    sorted = index;
    heads.forEach((head, i) => head.setAttribute("aria-sort",
      i !== index ? "none" : direction > 0 ? "ascending" : "descending"));
    fill([...rows].sort((a, b) => direction * compare(columns[index].key(a), columns[index].key(b), direction)));
  };
  fill(rows);
  return make("div", { class: "wide" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body));
}

function cellOf(column, row) {
  const content = column.cell(row);
  return content instanceof Element && content.tagName === "TD" ? content : make("td", {}, content);
}

// What is not known comes last, whichever way the others are sorted.
function compare(a, b, direction) {
  if (a === null || a === undefined) return b === null || b === undefined ? 0 : direction;
  if (b === null || b === undefined) return -direction;
  return typeof a === "string" ? a.localeCompare(b, "en", { numeric: true }) : a - b;
}

// Success as a shade from dark blue to yellow; the text stays legible on it.
function shade(value) {
  if (value === null || value === undefined) return make("td", { class: "cell" }, "–");
  const from = [0, 32, 76], middle = [124, 123, 120], to = [255, 234, 70];
  const [a, b, t] = value < 0.5 ? [from, middle, value * 2] : [middle, to, value * 2 - 1];
  const rgb = a.map((part, i) => Math.round(part + (b[i] - part) * t));
  const style = `background:rgb(${rgb.join(",")});color:${value > 0.45 ? "#111" : "#fff"}`;
  return make("td", { class: "cell", style }, value.toFixed(2));
}
