// A table that is sorted by a click on the head of a column.

// Columns are {title, value(row), cell(row), left, describe}; `value` is what is sorted by, null comes last.
function sortableTable(caption, columns, rows, start, highlight) {
  const body = h("tbody");
  const heads = columns.map((column, place) => h("th", { scope: "col", class: column.left ? "left" : null },
    column.value
      ? h("button", { class: "sort", title: column.describe, onclick: () => order(place) }, column.title, h("span", { class: "arrow", "aria-hidden": "true" }, " ⇅"))
      : column.title));
  let sorted = { place: -1, descending: false };

  function order(place, descending = sorted.place === place ? !sorted.descending : !columns[place].left) {
    sorted = { place, descending };
    const value = columns[place].value;
    const sign = descending ? -1 : 1;
    const keyed = rows.map((row) => [value(row), row]);
    keyed.sort(([a], [b]) => {
      if (a === null || b === null) return (a === null) - (b === null);
      return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
    });
    heads.forEach((head, at) => {
      if (!columns[at].value) return;
      const state = at === place ? (descending ? "descending" : "ascending") : "none";
      head.setAttribute("aria-sort", state);
      head.querySelector(".arrow").textContent = { ascending: " ▲", descending: " ▼", none: " ⇅" }[state];
    });
    body.replaceChildren(...keyed.map(([, row]) => line(row)));
  }

  function line(row) {
    return h("tr", { class: highlight && highlight(row) ? "chosen" : null }, columns.map((column, place) => (place
      ? h("td", { class: column.left ? "left" : null }, column.cell(row))
      : h("th", { scope: "row", class: "left" }, column.cell(row)))));
  }

  if (start) order(start.place, start.descending);
  else body.append(...rows.map(line));
  return scroller(caption, h("table", {}, h("caption", { class: "unseen" }, caption), h("thead", {}, h("tr", {}, heads)), body));
}

// A wide table scrolls by itself, also with the keys.
function scroller(name, table) {
  return h("div", { class: "scroller", role: "region", "aria-label": name, tabindex: "0" }, table);
}

// A cell whose colour shows a share from 0 to 1; the number is in it as text.
function shaded(share, tone = "--hot") {
  return { style: { background: `color-mix(in srgb, var(${tone}) ${Math.round(52 * Math.sqrt(Math.max(0, Math.min(1, share))))}%, var(--surface))` } };
}
