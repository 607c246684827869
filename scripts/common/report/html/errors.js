// Where models fail: by label, by group (groups.js), and the confusion matrix, whose cells open their rows.

function errorsSection(dataset) {
  const byLabel = [
    { title: "model", left: true, value: (row) => row.name, cell: (row) => row.name },
    ...dataset.labels.map((label, place) => shadedColumn(bdi(label), (row) => row.errors[place])),
  ];
  const parts = [h("h3", {}, "Error rate of each label (%)"), sortableTable(`Error rate of each label on ${dataset.title}`, byLabel, dataset.models, null, (row) => row.best)];
  return [...parts, groupScores(dataset), dataset.tables.map(plainTable), confusion(dataset)];
}

// A table that the report has made: a title, an explanation, and texts.
function plainTable({ title, about, header, rows }) {
  const line = (cells, tag) => h("tr", {}, cells.map((cell, place) => h(place ? tag : "th", { scope: tag === "th" ? "col" : place ? null : "row", class: place ? null : "left" }, bdi(cell))));
  return [h("h3", {}, title), scroller(title, h("table", {}, h("caption", { class: "unseen" }, title), h("thead", {}, line(header, "th")), h("tbody", {}, rows.map((row) => line(row, "td"))))), h("p", { class: "soft" }, about)];
}

// A column of shares from 0 to 1, the larger the redder.
function shadedColumn(title, value) {
  const cell = (row) => h("span", { class: "shade", ...(value(row) === null ? {} : shaded(value(row))) }, percent(value(row)));
  return { title, value, cell };
}

function confusion(dataset) {
  const place = h("div");
  const draw = () => {
    const rows = dataset.rows();
    const hasRows = dataset.known(dataset.run);
    const split = rows ? rows.split : "test";
    const size = dataset.labels.length;
    const matrix = hasRows ? rows.confusion(dataset.run) : (dataset.runs[dataset.run].confusion[split] || []).map((line) => [...line, 0]);
    if (!matrix.length) {
      place.replaceChildren(h("p", {}, `${dataset.runName(dataset.run)} has no predictions for ${split}.`));
      return;
    }
    const invalid = matrix.some((line) => line[size] > 0);
    const names = [...dataset.labels, ...(invalid ? ["no label"] : [])];
    const cell = (line, gold, predicted) => {
      const n = line[predicted];
      const share = n / (line.reduce((sum, value) => sum + value, 0) || 1);
      const look = shaded(share, gold === predicted ? "--good" : "--hot");
      const text = [h("b", {}, count(n)), h("span", { class: "share" }, ` ${percent(share)} %`)];
      if (!hasRows || !n) return h("td", look, text);
      const label = `${n} rows: gold ${dataset.labels[gold]}, predicted ${names[predicted]}. Show them.`;
      const open = () => {
        dataset.choose({}, { gold: String(gold), predicted: String(predicted), outcome: "", group: "", query: "" });
        openRows(`${n} rows`);
      };
      return h("td", look, h("button", { class: "cell", "aria-label": label, onclick: open }, text));
    };
    place.replaceChildren(scroller(`Confusion matrix of ${dataset.runName(dataset.run)}`, h("table", { class: "confusion" },
      h("caption", {}, `${dataset.runName(dataset.run)} on ${split}`),
      h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "left" }, "gold ↓  predicted →"), names.map((name) => h("th", { scope: "col" }, bdi(name))))),
      h("tbody", {}, dataset.labels.map((label, gold) => h("tr", {}, h("th", { scope: "row", class: "left" }, bdi(label)),
        names.map((_, predicted) => cell(matrix[gold], gold, predicted))))))));
  };
  dataset.onChoice.push(draw);
  draw();
  return [h("h3", {}, "Confusion matrix"), runSelect(dataset, "Run", "run"), place,
    h("p", { class: "soft" }, "Shares are of the gold label. ", dataset.row_sets.length ? "A cell opens its rows." : "No predictions are on this machine, so there are no rows to open.")];
}

// A list of the runs; `key` is "run" or "other". It follows what is chosen elsewhere.
function runSelect(dataset, label, key) {
  const options = dataset.runs.map((_, run) => [run, dataset.runName(run)]);
  const field = select(label, options, dataset[key], (value) => dataset.choose({ [key]: Number(value) }));
  dataset.onChoice.push(() => { field.querySelector("select").value = String(dataset[key]); });
  return field;
}
