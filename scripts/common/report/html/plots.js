// Plots as SVG: a score with its interval in a table, cost against quality, learning curves.

const SHAPES = ["circle", "square", "diamond", "triangle", "cross", "star"];
const COLORS = 8; // --series-0 to --series-7 of style.css
const color = (place) => `var(--series-${place % COLORS})`;

function marker(place, x, y, size, title, hollow = false) {
  const s = size;
  const paths = {
    circle: `M${x - s},${y}a${s},${s} 0 1,0 ${2 * s},0a${s},${s} 0 1,0 ${-2 * s},0`,
    square: `M${x - s},${y - s}h${2 * s}v${2 * s}h${-2 * s}z`,
    diamond: `M${x},${y - 1.3 * s}L${x + 1.3 * s},${y}L${x},${y + 1.3 * s}L${x - 1.3 * s},${y}z`,
    triangle: `M${x},${y - 1.2 * s}L${x + 1.2 * s},${y + s}h${-2.4 * s}z`,
    cross: `M${x - s},${y - s}L${x + s},${y + s}M${x - s},${y + s}L${x + s},${y - s}`,
    star: `M${x},${y - 1.4 * s}V${y + 1.4 * s}M${x - 1.2 * s},${y - 0.7 * s}L${x + 1.2 * s},${y + 0.7 * s}M${x + 1.2 * s},${y - 0.7 * s}L${x - 1.2 * s},${y + 0.7 * s}`,
  };
  const shape = SHAPES[Math.floor(place + place / COLORS) % SHAPES.length];
  const look = ["cross", "star"].includes(shape) ? { fill: "none", stroke: color(place), "stroke-width": 2.5 } : hollow ? { fill: "var(--surface)", stroke: color(place), "stroke-width": 1.8 } : { fill: color(place), stroke: "var(--surface)" };
  return svg("path", { d: paths[shape], class: "marker", ...look }, title ? svg("title", {}, title) : null);
}

// The range of the plots in the table: that of the fine-tuned models, and of baselines near them.
function scoreRange(dataset) {
  const ends = (models) => models.flatMap((model) => [...model.scores[dataset.lead], ...(model.interval || [])]);
  const tuned = dataset.models.filter((model) => !model.baseline);
  let [low, high] = span(ends(tuned.length ? tuned : dataset.models));
  const near = Math.max(high - low, 0.03);
  const all = ends(dataset.models).filter((value) => value > low - near && value < high + near);
  [low, high] = span(all);
  const margin = 0.06 * (high - low) || 0.01;
  return [Math.max(low - margin, Math.min(low, 0)), high + margin];
}

const span = (values) => [Math.min(...values), Math.max(...values)];

// The mean as a dot, seeds as ticks, and the interval as a line; an arrow points to a value beyond the range. The
// numbers are beside it as text.
function scorePlot(dataset, model, [low, high], width = 150) {
  const x = (value) => 6 + ((Math.max(low, Math.min(high, value)) - low) / (high - low)) * (width - 12);
  const values = model.scores[dataset.lead];
  const center = mean(values);
  const parts = [svg("line", { x1: 0, x2: width, y1: 9, y2: 9, class: "rail" })];
  if (model.interval) parts.push(svg("line", { x1: x(model.interval[0]), x2: x(model.interval[1]), y1: 9, y2: 9, class: "whisker" }));
  if (center === null) return null;
  if (center < low || center > high) parts.push(svg("path", { d: center < low ? "M0,9l7,-5v10z" : `M${width},9l-7,-5v10z`, class: "beyond" }));
  else {
    if (values.length > 1) parts.push(values.map((value) => svg("line", { x1: x(value), x2: x(value), y1: 3, y2: 15, class: "tick" })));
    parts.push(svg("circle", { cx: x(center), cy: 9, r: 4, class: model.baseline ? "dot baseline" : "dot" }));
  }
  return svg("svg", { width, height: 18, "aria-hidden": "true", class: "score-plot" }, parts);
}

// A plot that is drawn again when its width changes; `draw(width)` returns an SVG.
function figure(title, draw, ...below) {
  const place = h("div", { class: "plot" });
  let width = 0;
  const redraw = () => {
    const found = Math.max(280, Math.min(760, Math.floor(place.clientWidth)));
    if (found !== width) place.replaceChildren(draw((width = found)));
  };
  new ResizeObserver(redraw).observe(place);
  return h("figure", {}, h("figcaption", {}, title), place, below);
}

// Axes with their ticks. `x` and `y` are {low, high, log, text, ticks, title}; returns the two scales and the elements.
function axes(width, height, x, y) {
  const box = { left: 50, right: width - 14, top: 12, bottom: height - 44 };
  const at = (axis, from, to) => {
    const map = axis.log ? Math.log10 : (value) => value;
    const [low, high] = [map(axis.low), map(axis.high)];
    return (value) => from + ((map(value) - low) / (high - low || 1)) * (to - from);
  };
  const px = at(x, box.left, box.right);
  const py = at(y, box.bottom, box.top);
  const lines = [
    y.ticks.map((tick) => [
      svg("line", { x1: box.left, x2: box.right, y1: py(tick), y2: py(tick), class: "grid" }),
      svg("text", { x: box.left - 6, y: py(tick) + 4, "text-anchor": "end" }, y.text(tick)),
    ]),
    x.ticks.map((tick) => [
      svg("line", { x1: px(tick), x2: px(tick), y1: box.bottom, y2: box.bottom + 4, class: "axis" }),
      svg("text", { x: px(tick), y: box.bottom + 17, "text-anchor": "middle" }, x.text(tick)),
    ]),
    svg("line", { x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom, class: "axis" }),
    svg("text", { x: (box.left + box.right) / 2, y: height - 8, "text-anchor": "middle" }, x.title),
    svg("text", { transform: `translate(12 ${(box.top + box.bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, y.title),
  ];
  return { px, py, box, lines };
}

function linearAxis(values, title, text, most = 6) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  const margin = 0.08 * (high - low) || Math.abs(0.05 * high) || 0.05;
  [low, high] = [low >= 0 ? Math.max(0, low - margin) : low - margin, high + margin];
  const step = [1, 2, 5, 10].map((unit) => unit * 10 ** Math.floor(Math.log10((high - low) / most))).find((unit) => (high - low) / unit <= most);
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) ticks.push(+tick.toPrecision(10));
  return { low, high, ticks, title, text };
}

function logAxis(values, title, text, most) {
  const [low, high] = [Math.min(...values) / 1.35, Math.max(...values) * 1.35];
  const ticks = [];
  for (const units of [[1, 2, 5], [1, 3], [1]]) {
    ticks.length = 0;
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power += 1) {
      ticks.push(...units.map((unit) => unit * 10 ** power).filter((tick) => tick >= low && tick <= high));
    }
    if (ticks.length <= most) break;
  }
  return { low, high, ticks: ticks.length ? ticks : [low * 1.35], log: true, title, text };
}

// Points that no other point beats: none costs less and is at least as good, or costs as much and is better.
function paretoFront(found) {
  const front = [];
  for (const point of [...found].sort((a, b) => a.cost - b.cost || b.score - a.score)) {
    if (!front.length || point.score > front[front.length - 1].score) front.push(point);
  }
  return front;
}

// Where the number of a point is written: the first of some places near it that no other point or number takes.
function freePlace(x, y, taken) {
  const offsets = [[9, -7], [9, 14], [-21, -7], [-21, 14], [22, -7], [22, 14], [-34, -7], [9, -20], [9, 27], [-21, -20]];
  const isFree = ([dx, dy]) => taken.every(([tx, ty]) => Math.abs(x + dx + 6 - tx) > 13 || Math.abs(y + dy - 4 - ty) > 11);
  const [dx, dy] = offsets.find(isFree) || offsets[0];
  taken.push([x + dx + 6, y + dy - 4]);
  return { x: x + dx, y: y + dy };
}

// Cost against quality. Points are {model, cost, score, place, number}; `levels` are the scores of baselines.
function scatter(dataset, found, levels, cost, width) {
  const height = 340;
  const scores = found.flatMap(({ model, score }) => [score, ...(model.interval || [])]);
  const near = levels.filter(({ score }) => score > Math.min(...scores) - 0.25);
  const x = logAxis(found.map((point) => point.cost), cost.title, cost.text, width / 70);
  const y = linearAxis([...scores, ...near.map(({ score }) => score)].map((score) => 100 * score), `test ${dataset.leadName} (%)`, String);
  const { px, py, box, lines } = axes(width, height, x, y);
  const taken = found.map((point) => [px(point.cost), py(100 * point.score)]);
  const front = paretoFront(found);
  const path = front.map(({ cost: at, score }, place) => (place ? `H${px(at)}V${py(100 * score)}` : `M${px(at)},${py(100 * score)}`)).join("");
  const words = found.map(({ model, cost: at, score }) => `${model.name}: ${percent(score)} % at ${cost.text(at)}`);
  const label = `${dataset.title}: test ${dataset.leadName} by ${cost.title}. ${words.join("; ")}. Pareto front: ${front.map(({ model }) => model.name).join(", ")}.`;
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label },
    lines,
    near.map(({ name, score }) => [
      svg("line", { x1: box.left, x2: box.right, y1: py(100 * score), y2: py(100 * score), class: "level" }),
      svg("text", { x: box.right, y: py(100 * score) - 4, "text-anchor": "end", class: "soft" }, name),
    ]),
    svg("path", { d: `${path}H${box.right}`, class: "front" }),
    found.map(({ model, cost: at }) => model.interval && svg("line", { x1: px(at), x2: px(at), y1: py(100 * model.interval[0]), y2: py(100 * model.interval[1]), class: "whisker" })),
    found.map(({ model, cost: at, score, place }, which) => marker(place, px(at), py(100 * score), 5.5, words[which], !model.chosen)),
    found.map(({ cost: at, score, number }) => svg("text", { ...freePlace(px(at), py(100 * score), taken), class: "number" }, String(number))));
}

// Lines over epochs. `curves` are {name, points, place, dotted}.
function curvePlot(label, title, curves, scale, width) {
  const height = 260;
  const all = curves.flatMap((curve) => curve.points);
  const x = linearAxis([0, ...all.map((point) => point[0])], "epoch", String, Math.min(8, width / 60));
  const y = linearAxis(all.map((point) => scale * point[1]), title, String, 5);
  x.low = 0;
  const { px, py, lines } = axes(width, height, x, y);
  const words = curves.map(({ name, points: found }) => `${name} ends at ${+(scale * found[found.length - 1][1]).toFixed(3)}`);
  return svg("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": `${label}: ${words.join("; ")}.` },
    lines,
    curves.map(({ name, points: found, place, dotted }) => [
      svg("polyline", { points: found.map((point) => `${px(point[0])},${py(scale * point[1])}`).join(" "), class: dotted ? "curve dotted" : "curve", style: { stroke: color(place) } }),
      dotted ? null : found.map((point) => marker(place, px(point[0]), py(scale * point[1]), 3.5, `${name}, epoch ${+point[0].toFixed(2)}: ${+(scale * point[1]).toFixed(3)}`)),
    ]));
}

// A legend: markers and names.
function legend(entries) {
  return h("ul", { class: "legend" }, entries.map(({ name, place, number, dotted, note, hollow }) => h("li", {},
    svg("svg", { width: 26, height: 14, "aria-hidden": "true" },
      dotted !== undefined ? svg("line", { x1: 0, x2: 26, y1: 7, y2: 7, class: dotted ? "curve dotted" : "curve", style: { stroke: color(place) } }) : null,
      dotted ? null : marker(place, 13, 7, 4.5, null, hollow)),
    number ? h("b", {}, `${number} `) : null, name, note ? h("span", { class: "soft" }, ` ${note}`) : null)));
}
