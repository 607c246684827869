// The rows behind the scores: filter, search, sort, and every run's prediction for one row.

const OUTCOMES = [
  ["", "all rows"],
  ["wrong", "the run is wrong"],
  ["right", "the run is right"],
  ["a", "the run is right, the other is wrong"],
  ["b", "the run is wrong, the other is right"],
  ["both", "both are right"],
  ["none", "both are wrong"],
  ["hard", "every run is wrong"],
  ["split", "some runs are wrong"],
];
const SORTS = [
  ["file", "as in the file"],
  ["sure", "highest confidence first"],
  ["unsure", "lowest confidence first"],
  ["gold", "lowest probability of the gold label first"],
  ["hard", "wrong in most runs first"],
  ["long", "longest text first"],
];

// Return the places of the rows that a filter leaves, sorted.
function filteredRows(dataset) {
  const { filter, run, other } = dataset;
  const rows = dataset.rows();
  const columns = rows.runs.get(run);
  const query = fold(filter.query.trim());
  const haystacks = query ? rows.haystacks() : null;
  const wrong = ["hard", "split"].includes(filter.outcome) || filter.sort === "hard" ? rows.wrongCounts() : null;
  const test = {
    wrong: (row) => !rows.right(run, row),
    right: (row) => rows.right(run, row),
    hard: (row) => wrong[row] === rows.runs.size,
    split: (row) => wrong[row] > 0 && wrong[row] < rows.runs.size,
  }[filter.outcome] || ((row) => dataset.known(other) && rows.has(other, row) && who(rows.right(run, row), rows.right(other, row)) === filter.outcome);
  const [gold, group] = [filter.gold, filter.group].map((value) => (value === "" ? -1 : Number(value)));
  const size = rows.labels.length;
  const predicted = filter.predicted === "" ? -1 : Number(filter.predicted);
  const found = [];
  for (let row = 0; row < rows.n; row += 1) {
    if (columns.predicted[row] === ABSENT) continue;
    if (gold >= 0 && rows.gold[row] !== gold) continue;
    if (predicted >= 0 && Math.min(columns.predicted[row], size) !== predicted) continue;
    if (group >= 0 && rows.group[row] !== group) continue;
    if (filter.outcome && !test(row)) continue;
    if (haystacks && !haystacks[row].includes(query)) continue;
    found.push(row);
  }
  const length = (row) => rows.texts(row).reduce((sum, text) => sum + text.length, 0);
  const key = {
    sure: (row) => (columns.confidence[row] === ABSENT ? 1 : -columns.confidence[row]),
    unsure: (row) => columns.confidence[row],
    gold: (row) => columns.gold[row],
    hard: (row) => -wrong[row],
    long: (row) => -length(row),
  }[filter.sort];
  if (!key) return found;
  const keys = new Map(found.map((row) => [row, key(row)]));
  return found.sort((a, b) => keys.get(a) - keys.get(b) || a - b);
}

function rowsSection(dataset) {
  const rows = dataset.rows();
  if (!rows) return h("p", {}, "The predictions of these runs are not on this machine. `make report` shows them where the runs were made.");
  const detail = h("div", { class: "detail", role: "region", "aria-label": "The selected row" });
  const summary = h("p", { class: "count" });
  const notes = h("div");
  const list = new VirtualList("Rows", (row) => rowLine(dataset, row), (row) => detail.replaceChildren(...(row === null ? [] : rowDetail(dataset, row))));
  const search = h("input", { type: "search", placeholder: "words of a text, or an id", oninput: () => later(() => dataset.choose({}, { query: search.value })) });
  const fields = h("div", { class: "fields" });
  const drawFields = () => {
    const set = dataset.rows();
    const { filter } = dataset;
    const pick = (label, options, name) => {
      const field = select(label, options, filter[name], (value) => dataset.choose({}, { [name]: value }));
      field.dataset.name = name;
      return field;
    };
    const labels = dataset.labels.map((label, place) => [place, label]);
    fields.replaceChildren(...[
      dataset.row_sets.length > 1 ? select("Split", dataset.row_sets.map((one, place) => [place, splitName(dataset, one)]), dataset.place, (value) => {
        dataset.choose({ place: Number(value) }, { group: "" });
        drawFields();
      }) : null,
      labelled("Search", search, "field wide"),
      pick("Outcome", OUTCOMES, "outcome"),
      pick("Gold label", [["", "any"], ...labels], "gold"),
      pick("Predicted label", [["", "any"], ...labels, [labels.length, "no label"]], "predicted"),
      set.groups.length ? pick("Group", [["", "any"], ...set.groups.map((name, place) => [place, name])], "group") : null,
      pick("Order", SORTS, "sort"),
    ].filter(Boolean));
  };
  const draw = () => {
    const set = dataset.rows();
    if (document.activeElement !== search) search.value = dataset.filter.query;
    fields.querySelectorAll("[data-name]").forEach((field) => { field.querySelector("select").value = dataset.filter[field.dataset.name]; });
    const isKnown = dataset.known(dataset.run);
    const found = isKnown ? filteredRows(dataset) : [];
    const text = isKnown ? `${count(found.length)} of ${count(set.n)} rows` : `${dataset.runName(dataset.run)} has no predictions for ${set.split}.`;
    summary.replaceChildren(h("strong", {}, text), ` of ${set.split}. Wrong in all of ${set.runs.size} runs often means that the label is wrong.`);
    notes.replaceChildren(...set.notes.map((note) => h("p", { class: "note" }, note)));
    list.show(found);
    say(text);
  };
  drawFields();
  dataset.onRows.push(draw);
  window.onbeforeprint = () => list.print(true);
  window.onafterprint = () => list.print(false);
  draw();
  const reset = () => dataset.choose({}, { gold: "", predicted: "", outcome: "", group: "", query: "", sort: "file" });
  return [
    h("div", { class: "fields" }, runSelect(dataset, "Run", "run"), runSelect(dataset, "Other run", "other"), h("button", { onclick: () => { search.value = ""; reset(); } }, "Show all rows")),
    fields, notes, summary, h("div", { class: "explorer" }, list.element, detail),
    h("p", { class: "soft print-only" }, `Printed are at most the first ${PRINTED} of these rows.`),
  ];
}

const splitName = (dataset, set) => (dataset.row_sets.filter((other) => other.split === set.split).length > 1 ? `${set.split}, data ${set.data.slice(0, 8)}` : set.split);

let waiting = 0;
function later(action) {
  clearTimeout(waiting);
  waiting = setTimeout(action, 90);
}

function openRows(text) {
  document.getElementById("rows").scrollIntoView();
  document.querySelector("#rows .list").focus({ preventScroll: true });
  say(`${text} are shown.`);
}

const shareText = (value) => (value === ABSENT ? "" : `${(value / (UNITS / 100)).toFixed(1)} %`);

function labelChip(rows, run, row) {
  const isRight = rows.right(run, row);
  return h("span", { class: isRight ? "chip right" : "chip wrong" }, isRight ? "✓ " : "✗ ", bdi(rows.predictedName(run, row)));
}

function rowLine(dataset, row) {
  const rows = dataset.rows();
  const { run } = dataset;
  const query = fold(dataset.filter.query.trim());
  const all = rows.texts(row);
  const texts = rows.order().map((place) => all[place].slice(0, 400)); // more is never seen in one line
  const goldName = rows.labels[rows.gold[row]] ?? "no label";
  return [
    h("div", { class: "line" }, labelChip(rows, run, row), h("span", { class: "soft" }, shareText(rows.runs.get(run).confidence[row])),
      rows.right(run, row) ? null : h("span", {}, "gold ", bdi(goldName)), h("span", { class: "soft id" }, bdi(rows.ids[row], query))),
    h("div", { class: "text" }, texts.length ? texts.map((text, place) => [place ? h("span", { class: "soft" }, " ‖ ") : null, bdi(text, query)]) : h("span", { class: "soft" }, "(no text)")),
  ];
}

function rowDetail(dataset, row) {
  const rows = dataset.rows();
  const query = fold(dataset.filter.query.trim());
  const texts = rows.texts(row);
  const facts = [["id", bdi(rows.ids[row])], ["gold label", bdi(rows.labels[rows.gold[row]] ?? "no label")]];
  if (rows.group && rows.group[row] !== ABSENT) facts.push(["group", bdi(rows.groups[rows.group[row]])]);
  const lines = [...rows.runs.keys()].filter((run) => rows.has(run, row)).map((run) => {
    const columns = rows.runs.get(run);
    return h("tr", { class: run === dataset.run ? "chosen" : null },
      h("th", { scope: "row", class: "left" }, dataset.runName(run)),
      h("td", { class: "left" }, labelChip(rows, run, row), columns.generated[row] !== undefined ? [" generated: ", bdi(columns.generated[row])] : null),
      h("td", {}, shareText(columns.confidence[row])), h("td", {}, shareText(columns.gold[row])));
  });
  return [
    texts.map((text, place) => [h("h3", { class: "column" }, rows.columns[place].name), h("p", { class: "whole", dir: "auto" }, shown(text, query))]),
    h("dl", {}, facts.map(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    h("div", { class: "scroller", role: "region", "aria-label": "Predictions of all runs", tabindex: "0" }, h("table", {}, h("caption", { class: "unseen" }, "Predictions of all runs"),
      h("thead", {}, h("tr", {}, ["run", "predicted", "confidence", "probability of gold"].map((name, place) => h("th", { scope: "col", class: place < 2 ? "left" : null }, name)))),
      h("tbody", {}, lines))),
  ].flat(3);
}
