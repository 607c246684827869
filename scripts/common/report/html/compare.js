// Two runs side by side: who is right where, whether chance explains it, and in which settings they differ.

function compareSection(dataset) {
  const place = h("div");
  const draw = () => {
    const { run, other } = dataset;
    const rows = dataset.rows();
    const parts = [];
    if (!dataset.known(run) || !dataset.known(other)) {
      parts.push(h("p", {}, "Choose two runs whose predictions are on this machine."));
    } else if (run === other) {
      parts.push(h("p", {}, "Choose two different runs."));
    } else {
      parts.push(whoIsRight(dataset, rows), byLabel(dataset, rows));
    }
    place.replaceChildren(...parts.flat(3), ...settingsTable(dataset));
  };
  dataset.onChoice.push(draw);
  draw();
  return [h("div", { class: "fields" }, runSelect(dataset, "A", "run"), runSelect(dataset, "B", "other")), place];
}

function whoIsRight(dataset, rows) {
  const { run, other } = dataset;
  const found = rows.outcomes(run, other);
  const p = mcnemar(found.a, found.b);
  const cell = (key, text) => h("td", {}, h("button", { class: "cell", disabled: !found[key], "aria-label": `${found[key]} rows: ${text}. Show them.`, onclick: () => {
    dataset.choose({}, { gold: "", predicted: "", group: "", query: "", outcome: key });
    openRows(`${found[key]} rows`);
  } }, h("b", {}, count(found[key]))));
  const differing = found.a + found.b;
  const chance = p < 0.05
    ? "A difference this large is rare if both are equally good"
    : "Chance alone makes differences this large: the rows do not show which one is better";
  return [
    h("p", { class: "verdict" }, `On ${count(differing)} of ${count(found.both + found.none + differing)} rows one of the two is right and the other is wrong: A on ${count(found.a)}, B on ${count(found.b)}. ${chance} (McNemar's exact test, p ${p < 0.001 ? "< 0.001" : `= ${p.toFixed(3)}`}).`),
    h("table", { class: "confusion" }, h("caption", {}, `Rows of ${rows.split}; a number opens its rows`),
      h("thead", {}, h("tr", {}, h("td"), h("th", { scope: "col" }, "B is right"), h("th", { scope: "col" }, "B is wrong"))),
      h("tbody", {},
        h("tr", {}, h("th", { scope: "row", class: "left" }, "A is right"), cell("both", "both are right"), cell("a", "only A is right")),
        h("tr", {}, h("th", { scope: "row", class: "left" }, "A is wrong"), cell("b", "only B is right"), cell("none", "both are wrong")))),
    h("p", { class: "soft" }, "The test takes these two trained models as they are. It says nothing about other seeds, and rows of one group are not independent."),
  ];
}

function byLabel(dataset, rows) {
  const { run, other } = dataset;
  const sums = dataset.labels.map((label) => ({ label, n: 0, a: 0, b: 0 }));
  for (let row = 0; row < rows.n; row += 1) {
    const sum = sums[rows.gold[row]];
    if (!sum || !rows.has(run, row) || !rows.has(other, row)) continue;
    sum.n += 1;
    const outcome = who(rows.right(run, row), rows.right(other, row));
    if (outcome === "a" || outcome === "b") sum[outcome] += 1;
  }
  return [h("h3", {}, "By gold label"), sortableTable("Who is right, by gold label", [
    { title: "gold label", left: true, value: (row) => row.label, cell: (row) => bdi(row.label) },
    { title: "rows", value: (row) => row.n, cell: (row) => count(row.n) },
    { title: "only A right", value: (row) => row.a, cell: (row) => count(row.a) },
    { title: "only B right", value: (row) => row.b, cell: (row) => count(row.b) },
    { title: "A − B, points of recall", value: (row) => (row.n ? (row.a - row.b) / row.n : null), cell: (row) => (row.n ? points((row.a - row.b) / row.n) : DASH) },
  ], sums)];
}

function settingsTable(dataset) {
  const [one, two] = [dataset.run, dataset.other].map((run) => new Map(dataset.runs[run].config));
  const keys = [...one.keys()].filter((key) => two.has(key) && one.get(key) !== two.get(key)).sort();
  const alone = [...one.keys()].filter((key) => !two.has(key)).length + [...two.keys()].filter((key) => !one.has(key)).length;
  if (dataset.run === dataset.other) return [];
  return [h("h3", {}, "Settings that differ"), keys.length ? sortableTable("Settings that differ", [
    { title: "setting", left: true, value: (key) => key, cell: (key) => h("code", {}, key) },
    { title: "A", left: true, value: (key) => one.get(key), cell: (key) => bdi(one.get(key)) },
    { title: "B", left: true, value: (key) => two.get(key), cell: (key) => bdi(two.get(key)) },
  ], keys) : h("p", {}, "None of the settings that both have."),
  ...(alone ? [h("p", { class: "soft" }, `${alone} settings are those of one of the two alone. The section “Runs” shows them.`)] : [])];
}
