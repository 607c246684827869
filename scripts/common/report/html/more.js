// More labels? Scores by the number of train rows, the fitted power laws, and what further rows would bring.

function moreSection(dataset) {
  return [h("p", { class: "soft" }, PAGE.about_more_labels), dataset.more_labels.map((kind) => moreLabels(dataset, kind))];
}

function moreLabels(dataset, kind) {
  const columns = kind.header.map((title, place) => (place
    ? { title, value: (line) => line.cells[place - 1] && line.cells[place - 1].mean, cell: (line) => (line.cells[place - 1] ? line.cells[place - 1].text : DASH) }
    : { title, left: true, value: (line) => line.name, cell: (line) => line.name }));
  const title = kind.title[0].toUpperCase() + kind.title.slice(1);
  const laws = kind.lines.map((line) => line.law).filter(Boolean);
  const isCut = laws.some(({ low, high }) => Math.min(...low) < kind.range[0] || Math.max(...high) > kind.range[1]);
  return [
    h("h3", {}, title),
    sortableTable(`${title} on ${dataset.title}`, columns, kind.lines),
    h("ul", { class: "sentences" }, kind.sentences.map((sentence) => h("li", {}, sentence))),
    figure(`Test ${kind.title}`, (width) => moreLabelsPlot(dataset, kind, width),
      legend(kind.lines.map(({ name }, place) => ({ name, place }))),
      h("p", { class: "soft" }, "Bars: 95 % intervals of the scores. ",
        laws.length ? "Lines: fitted power laws, dashed where they forecast. Bands: 95 % intervals of a score by the law." : "",
        isCut ? " A band that reaches the edge of the plot goes on beyond it." : "")),
  ];
}

function moreLabelsPlot(dataset, kind, width) {
  const height = 340;
  const points = kind.lines.map((line) => kind.sizes.map((rows, place) => ({ rows, ...line.cells[place] })).filter(({ mean: score }) => score !== undefined));
  const laws = kind.lines.map((line) => line.law);
  const most = Math.max(...kind.sizes, ...laws.filter(Boolean).flatMap(({ rows }) => rows));
  const least = Math.min(...kind.sizes);
  const edge = (most / least) ** 0.04;
  const x = { low: least / edge, high: most * edge, log: true, text: count, title: `train rows${kind.per_label ? " of each label" : ""}` };
  x.ticks = apart(kind.sizes, (x.high / x.low) ** (46 / (width - 64)));
  const y = linearAxis(kind.range.map((score) => 100 * score), `test ${kind.score} (%)`, String);
  const { px, py, lines } = axes(width, height, x, y);
  const inside = (score) => Math.max(y.low, Math.min(y.high, 100 * score));
  const at = (rows, scores) => rows.map((row, place) => `${px(row)},${py(inside(scores[place]))}`);
  const words = kind.lines.map(({ name }, which) => `${name}: ${points[which].map(({ rows, mean: score }) => `${percent(score)} % with ${count(rows)}`).join(", ")}`);
  const shift = (which) => 6 * (which - (kind.lines.length - 1) / 2); // bars of one size stand side by side
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${dataset.title}: test ${kind.title}. ${words.join("; ")}. ${kind.sentences.join(" ")}` },
    lines,
    laws.map((law, which) => law && svg("polygon", { points: [...at(law.rows, law.low), ...at(law.rows, law.high).reverse()].join(" "), class: "band", style: { fill: color(which) } })),
    laws.map((law, which) => {
      if (!law) return null;
      const known = law.rows.filter((rows) => rows <= kind.lines[which].now).length;
      const path = at(law.rows, law.score);
      return [[path.slice(0, known), "curve"], [path.slice(Math.max(0, known - 1)), "curve forecast"]].map(([part, look]) => svg("polyline", { points: part.join(" "), class: look, style: { stroke: color(which) } }));
    }),
    points.map((own, which) => own.map(({ rows, low, high }) => low !== null && svg("line", { x1: px(rows) + shift(which), x2: px(rows) + shift(which), y1: py(100 * low), y2: py(100 * high), class: "interval", style: { stroke: color(which) } }))),
    points.map((own, which) => own.map(({ rows, mean: score, text }) => marker(which, px(rows) + shift(which), py(100 * score), 4, `${kind.lines[which].name}, ${count(rows)} rows${kind.per_label ? " of each label" : ""}: ${text}`))));
}

// The sizes whose numbers do not overlap on a logarithmic axis, the largest first of all.
function apart(sizes, factor) {
  const kept = [];
  for (const size of [...sizes].sort((a, b) => b - a)) {
    if (!kept.length || kept[kept.length - 1] >= factor * size) kept.push(size);
  }
  return kept;
}
