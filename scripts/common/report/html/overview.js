// All datasets in one table; the results of one dataset; cost against quality.

function allDatasets(datasets, current, open) {
  const columns = [
    { title: "dataset", left: true, value: (row) => row.title, cell: (row) => h("button", { class: "link", "aria-current": row === current ? "true" : null, onclick: () => open(row) }, row.title) },
    { title: "test rows", value: (row) => row.test_rows, cell: (row) => count(row.test_rows) },
    { title: "best model by validation", left: true, value: (row) => (row.best ? row.best.name : null), cell: (row) => (row.best ? [row.best.name, row.best.mark ? h("span", { class: "badge" }, row.best.mark) : null] : DASH) },
    { title: "its test score", value: (row) => (row.best ? row.score(row.best) : null), cell: (row) => (row.best ? [scoreText(row, row.best), h("span", { class: "soft" }, ` ${row.leadName}`)] : DASH) },
    { title: "next model", left: true, value: (row) => (row.second ? row.second.name : null), cell: (row) => (row.second ? row.second.name : DASH) },
    { title: "lead, points", describe: "test score of the best model minus that of the next one", value: lead, cell: (row) => (row.second ? points(lead(row)) : DASH) },
  ];
  return sortableTable("The best model of each dataset", columns, datasets, null, (row) => row === current);
}

const lead = (dataset) => (dataset.second ? dataset.score(dataset.best) - dataset.score(dataset.second) : null);

// "71.1", "69.5 ± 1.8" over seeds, and the 95 % interval.
function scoreText(dataset, model, key = dataset.lead) {
  const values = model.scores[key];
  if (!values.length) return DASH;
  const sd = deviation(values);
  const interval = key === dataset.lead ? intervalText(model) : "";
  return `${percent(mean(values))}${sd === null ? "" : ` ± ${percent(sd)}`}${interval}`;
}

function intervalText(model) {
  return model.interval ? ` [${percent(model.interval[0])}, ${percent(model.interval[1])}]` : "";
}

function verdict(dataset) {
  const { best, second } = dataset;
  const seeds = best.runs.length;
  const opening = best.baseline
    ? ["There is no fine-tuned model here. The best baseline on test is ", h("strong", {}, best.name), `. Its ${dataset.leadName} on ${count(dataset.test_rows)} test rows is `]
    : [h("strong", {}, best.name), ` has the best validation score. On ${count(dataset.test_rows)} test rows its ${dataset.leadName} is `];
  const lines = [h("p", { class: "verdict" }, opening,
    h("strong", {}, `${scoreText(dataset, best)} %`), seeds > 1 ? ` (mean of ${seeds} seeds).` : " (one run).",
    second ? ` Of the others ${second.name} is best with ${scoreText(dataset, second)} %; the difference is ${points(lead(dataset))} points.` : "")];
  lines.push(...dataset.sentences.map((sentence) => h("p", { class: "verdict" }, sentence)));
  const sure = seeds === 1 && !best.interval;
  if (sure) lines.push(h("p", { class: "soft" }, "One run and no interval: a small lead may be chance. The section “Two runs side by side” tests it row by row."));
  return lines;
}

function resultsSection(dataset) {
  const range = scoreRange(dataset);
  const hasIntervals = dataset.models.some((model) => model.interval);
  const columns = [
    { title: "model", left: true, value: (row) => row.name, cell: (row) => [row.name, badges(row)] },
    { title: "method", left: true, value: (row) => row.method, cell: (row) => h("span", { class: "method" }, row.method) },
    { title: "seeds", value: (row) => row.runs.length, cell: (row) => row.runs.length },
    { title: dataset.leadName, describe: "on test, in percent", value: (row) => dataset.score(row), cell: (row) => scoreText(dataset, row) },
    { title: `${percent(range[0])} to ${percent(range[1])} %`, left: true, cell: (row) => scorePlot(dataset, row, range) },
    { title: "validation", describe: `${dataset.leadName} on validation, in percent, which chooses the variant`, value: (row) => row.validation, cell: (row) => percent(row.validation) },
    ...dataset.scores.slice(1).filter(([key]) => key !== dataset.lead).map(([key, name]) => (
      { title: name, value: (row) => mean(row.scores[key]), cell: (row) => scoreText(dataset, row, key) })),
    { title: "trainable", describe: "trainable parameters", value: (row) => row.trainable, cell: (row) => (row.trainable === null ? DASH : short(row.trainable)) },
    { title: "training time", value: (row) => row.time_s, cell: (row) => duration(row.time_s) },
    { title: "peak memory", value: (row) => row.memory_bytes, cell: (row) => bytes(row.memory_bytes) },
  ];
  return [
    verdict(dataset),
    sortableTable(`Scores on ${dataset.title}`, columns, dataset.models, { place: 3, descending: true }, (row) => row === dataset.best),
    h("p", { class: "soft" },
      `Scores on test, in percent; ± is the standard deviation over seeds${hasIntervals ? "; [low, high] is the 95 % interval" : ""}. In the plots a dot is the mean, `,
      `a tick is a seed${hasIntervals ? ", a thick line is the interval" : ""}. Test scores choose nothing: of several variants of a job, validation chooses one (“chosen”).`),
    elsewhere(dataset),
  ];
}

function badges(model) {
  const variants = model.chosen && !model.baseline;
  return [
    model.best ? h("span", { class: "badge best" }, "best by validation") : variants ? h("span", { class: "badge" }, "chosen") : null,
    model.mark ? h("span", { class: "badge" }, model.mark) : null,
  ];
}

function elsewhere(dataset) {
  if (!dataset.elsewhere.length) return null;
  const entries = dataset.elsewhere.map(({ model, score, source }) => h("li", {}, `${model}: ${score} (${source})`));
  return h("details", {}, h("summary", {}, "Scores published elsewhere"), h("ul", {}, entries));
}

const COSTS = {
  trainable: { title: "trainable parameters", text: short },
  total: { title: "parameters of the model", text: short },
  memory_bytes: { title: "peak memory", text: bytes },
  time_s: { title: "training time", text: duration },
};

function costSection(dataset) {
  const place = h("div");
  const tuned = dataset.models.filter((model) => !model.baseline && !model.ablation);
  const jobs = [...new Set(tuned.map((model) => model.job))];
  const known = Object.keys(COSTS).filter((key) => tuned.some((model) => model[key] > 0));
  if (!known.length) return h("p", {}, "No cost is known: there is no fine-tuned model here.");
  const draw = (key) => {
    const measured = tuned.filter((model) => model[key] > 0 && model.scores[dataset.lead].length);
    const found = measured.map((model) => ({ model, cost: model[key], score: dataset.score(model), place: jobs.indexOf(model.job), number: tuned.indexOf(model) + 1 }));
    const levels = dataset.models.filter((model) => model.baseline && !model.ablation).map((model) => ({ name: model.name, score: dataset.score(model) }));
    const front = paretoFront(found).map(({ model }) => model);
    const mixed = new Set(measured.map((model) => model.on_gpu)).size > 1;
    place.replaceChildren(figure(`${dataset.leadName} by ${COSTS[key].title}`,
      (width) => scatter(dataset, found, levels, COSTS[key], width),
      legend(found.map(({ model, place: at, number }) => ({ name: model.name, place: at, number, hollow: !model.chosen, note: front.includes(model) ? "on the Pareto front" : "" }))),
      h("p", { class: "soft" }, "The line is the Pareto front: no other model is better at the same cost or less. Dashed lines are baselines. ",
        found.some(({ model }) => !model.chosen) ? "Filled: of the variants of a job the one with the best validation score. " : "",
        measured.length < tuned.length ? `${tuned.length - measured.length} models were not measured. ` : "",
        key === "time_s" ? "Time includes the evaluations on validation: wall-clock time on a GPU, CPU time of all threads without one. " : "",
        key === "memory_bytes" ? "Memory of the GPU, or of the whole process without one. " : "",
        mixed && key !== "trainable" ? "Some of these models ran on a GPU and some did not: do not compare them here." : "")));
  };
  draw(known[0]);
  return [select("Cost", known.map((key) => [key, COSTS[key].title]), known[0], draw), place];
}
