// Scores by group: a table, and a plot of the first models.

const PLOTTED_MODELS = 4; // points below each other in one group

function groupScores(dataset) {
  const { groups } = dataset;
  if (!groups) return null;
  const title = `${groups.score[0].toUpperCase()}${groups.score.slice(1)} in each group (%)`;
  const columns = [
    { title: "group", left: true, value: (row) => row.group, cell: (row) => bdi(row.group) },
    { title: "rows", value: (row) => row.n, cell: (row) => count(row.n) },
    ...groups.models.map((title, place) => ({ title, value: (row) => row.cells[place] && row.cells[place].mean, cell: (row) => shadedScore(row.cells[place]) })),
  ];
  const plotted = groups.models.slice(0, PLOTTED_MODELS);
  return [
    h("h3", {}, title),
    sortableTable(`${title} of ${dataset.title}`, columns, groups.rows),
    h("p", { class: "soft" }, groups.sentences.join(" ")),
    figure(`Test ${groups.score} by group`, (width) => groupPlot(dataset, groups, plotted, width),
      legend(plotted.map((name, place) => ({ name, place }))),
      h("p", { class: "soft" }, "Bars: 95 % intervals. After a group: its number of rows. ",
        plotted.length < groups.models.length ? `The plot has the ${plotted.length} models with the best scores on all rows.` : "")),
  ];
}

function shadedScore(cell) {
  return cell ? h("span", { class: "shade", ...shaded(1 - cell.mean) }, cell.text) : DASH;
}

function groupPlot(dataset, groups, models, width) {
  const step = 11; // between two models
  const band = 24 + step * models.length;
  const height = 12 + band * groups.rows.length + 44;
  const shownCells = groups.rows.flatMap((row) => row.cells.slice(0, models.length)).filter(Boolean);
  const x = linearAxis(shownCells.flatMap(({ mean: score, low, high }) => [score, low ?? score, high ?? score]).map((score) => 100 * score), `test ${groups.score} (%)`, String, width / 70);
  const { px, box, lines } = axes(width, height, x, { low: 0, high: 1, ticks: [], text: String, title: "" });
  const most = Math.floor((box.right - box.left) / 7.5);
  const words = groups.rows.map((row) => `${plain(row.group)} (${count(row.n)} rows): ${models.map((name, place) => `${name} ${row.cells[place] ? row.cells[place].text : DASH}`).join(", ")}`);
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${dataset.title}: test ${groups.score} by group. ${words.join("; ")}.` },
    groups.rows.map((row, line) => (line % 2 ? null : svg("rect", { x: 0, width, y: box.top + line * band, height: band, class: "stripe" }))),
    lines,
    groups.rows.map((row, line) => {
      const top = box.top + line * band;
      const name = plain(row.group);
      return [
        x.ticks.map((tick) => svg("line", { x1: px(tick), x2: px(tick), y1: top + 20, y2: top + band, class: "grid" })),
        svg("text", { x: 6, y: top + 15 }, name.length > most ? `${name.slice(0, most - 1)}…` : name, svg("title", {}, name)),
        svg("text", { x: width - 6, y: top + 15, "text-anchor": "end", class: "soft" }, count(row.n)),
        models.flatMap((model, place) => {
          const cell = row.cells[place];
          if (!cell) return [];
          const y = top + 26 + step * place;
          return [
            cell.low !== null && svg("line", { x1: px(100 * cell.low), x2: px(100 * cell.high), y1: y, y2: y, class: "interval", style: { stroke: color(place) } }),
            marker(place, px(100 * cell.mean), y, 3.6, `${model}: ${cell.text}`),
          ];
        }),
      ];
    }));
}
