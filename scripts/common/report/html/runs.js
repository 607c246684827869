// One run: its curves, what was measured, where it comes from, and its config.

function runsSection(dataset) {
  const place = h("div");
  const draw = () => {
    const { run } = dataset;
    const content = dataset.runs[run];
    place.replaceChildren(
      h("p", {}, "Folder: ", h("code", {}, content.folder)),
      ...curves(dataset, run),
      h("h3", {}, "Measured, and where it comes from"),
      h("dl", { class: "facts" }, content.facts.map(([name, text]) => [h("dt", {}, name), h("dd", {}, bdi(text))])),
      h("details", {}, h("summary", {}, `config.yaml: ${content.config.length} settings`),
        scroller("Config", h("table", { class: "config" }, h("caption", { class: "unseen" }, "Config of the run"),
          h("thead", {}, h("tr", {}, h("th", { scope: "col", class: "left" }, "setting"), h("th", { scope: "col", class: "left" }, "value"))),
          h("tbody", {}, content.config.map(([key, text]) => h("tr", {}, h("th", { scope: "row", class: "left" }, h("code", {}, key)), h("td", { class: "left" }, bdi(text)))))))));
  };
  dataset.onChoice.push(draw);
  draw();
  return [h("div", { class: "fields" }, runSelect(dataset, "Run", "run"), runSelect(dataset, "Other run (curves)", "other")), place];
}

function curves(dataset, run) {
  const shownRuns = [...new Set([run, dataset.other])];
  const lines = (key, dotted) => shownRuns.map((one, place) => ({ name: dataset.runName(one), points: dataset.runs[one].curves[key], place, dotted })).filter((line) => line.points);
  const losses = [...lines("validation_loss", false), ...lines("loss", true)];
  const score = dataset.lead.replace("test_", "validation_");
  const scores = lines(score, false);
  if (!losses.length) return [h("p", { class: "soft" }, "This run was not trained, so it has no learning curves.")];
  const entries = (found) => legend(found.map(({ name, place, dotted }) => ({ name: `${name}, ${dotted ? "train" : "validation"}`, place, dotted })));
  return [h("div", { class: "plots" },
    figure("Loss (cross-entropy in nats)", (width) => curvePlot("Loss over epochs", "nats", losses, 1, width), entries(losses)),
    scores.length ? figure(`${dataset.leadName} on validation`, (width) => curvePlot(`${dataset.leadName} on validation over epochs`, "percent", scores, 100, width), entries(scores)) : null)];
}
