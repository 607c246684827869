// Build elements. Text enters the page as text nodes only, never as HTML.

function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svg(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") Object.entries(value).forEach(([key, item]) => element.style.setProperty(key, item));
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Control characters, and those that turn the direction of writing or have no width, are shown by their code points.
// U+200C to U+200F stay: emoji, Persian and Hebrew need them.
const HIDDEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udfff]/gu;

// Return nodes that show a text as it is, with every occurrence of `query` (folded) marked.
function shown(text, query = "") {
  const nodes = [];
  let end = 0;
  for (const found of text.matchAll(HIDDEN)) {
    nodes.push(...marked(text.slice(end, found.index), query));
    nodes.push(h("span", { class: "code-point" }, codePoint(found[0])));
    end = found.index + found[0].length;
  }
  nodes.push(...marked(text.slice(end), query));
  return nodes;
}

const codePoint = (character) => `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;

// A text of the data for a plot, whose texts have no elements.
const plain = (text) => String(text).replace(HIDDEN, codePoint);

function marked(text, query) {
  const folded = fold(text);
  if (!query || folded.length !== text.length) return text ? [text] : []; // folding moved the characters
  const nodes = [];
  let end = 0;
  for (let at = folded.indexOf(query); at >= 0; at = folded.indexOf(query, end)) {
    nodes.push(text.slice(end, at), h("mark", {}, text.slice(at, at + query.length)));
    end = at + query.length;
  }
  nodes.push(text.slice(end));
  return nodes.filter((node) => node !== "");
}

// A text of the data: it cannot turn the direction of the words around it.
function bdi(text, query) {
  return h("bdi", { dir: "auto" }, shown(String(text), query));
}

function fold(text) {
  return text.normalize("NFC").toLowerCase();
}

function select(label, options, value, onchange) {
  const field = h("select", { onchange: () => onchange(field.value) },
    options.map(([key, text]) => h("option", { value: key, selected: String(key) === String(value) }, text)));
  return labelled(label, field);
}

let fields = 0;
function labelled(label, field, kind = "field") {
  field.id = `field-${(fields += 1)}`;
  return h("div", { class: kind }, h("label", { for: field.id }, label), field);
}

function say(text) {
  document.getElementById("status").textContent = text;
}

const DASH = "–";
const count = (value) => (value === null || value === undefined ? DASH : Math.round(value).toLocaleString("en-US"));
const percent = (value) => (value === null || value === undefined ? DASH : decimal(100 * value));
const points = (value) => `${value < 0 ? "−" : "+"}${Math.abs(100 * value).toFixed(1)}`;
const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

// One decimal place; a tie goes to the even digit as in the tables that Python writes. Only quarters can be ties.
function decimal(value) {
  if (!Number.isInteger(4 * value) || Number.isInteger(2 * value)) return value.toFixed(1);
  const low = Math.floor(10 * value);
  return ((low % 2 === 0 ? low : low + 1) / 10).toFixed(1);
}

function deviation(values) {
  const center = mean(values);
  return values.length < 2 ? null : Math.sqrt(values.reduce((sum, value) => sum + (value - center) ** 2, 0) / (values.length - 1));
}

function duration(seconds) {
  if (seconds === null) return DASH;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const pad = (value) => String(value).padStart(2, "0");
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${pad(whole % 60)} s`;
  return `${Math.floor(whole / 3600)} h ${pad(Math.floor((whole % 3600) / 60))} min`;
}

function bytes(value) {
  if (value === null) return DASH;
  return value >= 1e9 ? `${(value / 1e9).toFixed(1)} GB` : `${Math.round(value / 1e6)} MB`;
}

function short(value) {
  if (value >= 1e9) return `${+(value / 1e9).toPrecision(3)} G`;
  if (value >= 1e6) return `${+(value / 1e6).toPrecision(3)} M`;
  return value >= 1e3 ? `${+(value / 1e3).toPrecision(3)} k` : String(+value.toPrecision(3));
}
