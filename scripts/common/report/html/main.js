// Put the page together: all datasets on top, then the sections of one dataset.

const DATASETS = PAGE.datasets.map((content) => new Dataset(content));
const SECTIONS = [
  ["results", "Results", resultsSection],
  ["more", "More labels?", moreSection],
  ["cost", "Cost and quality", costSection],
  ["errors", "Where models fail", errorsSection],
  ["compare", "Two runs side by side", compareSection],
  ["rows", "Rows", rowsSection],
  ["runs", "Runs", runsSection],
];

function themeField() {
  let kept = "auto";
  try {
    kept = localStorage.getItem("theme") || "auto";
  } catch { /* a page from disk may have no storage */ }
  const apply = (theme) => {
    document.documentElement.dataset.theme = theme;
    try {
      localStorage.setItem("theme", theme);
    } catch { /* then it is forgotten */ }
  };
  apply(kept);
  return select("Theme", [["auto", "as the system"], ["light", "light"], ["dark", "dark"]], kept, apply);
}

function open(dataset) {
  dataset.forget();
  history.replaceState(null, "", `#${encodeURIComponent(dataset.name)}`);
  document.title = `${dataset.title} · results`;
  document.getElementById("top").replaceChildren(...[
    h("div", { class: "bar" }, h("h1", {}, "Results"), h("p", { class: "soft" }, `made ${PAGE.made.replace("T", " ").replace("Z", " UTC")}`), themeField()),
    h("p", { class: "warning" }, h("strong", {}, "This file contains texts of the data. "), "Share it only with people who may read them. It is not published and loads nothing from a network."),
    PAGE.note ? h("p", { class: "note" }, PAGE.note) : null,
  ].filter(Boolean));
  const sections = SECTIONS.filter(([id]) => (id === "more" ? dataset.more_labels : dataset.models).length);
  document.getElementById("main").replaceChildren(
    allDatasets(DATASETS, dataset, (chosen) => { open(chosen); document.querySelector("#dataset").focus(); }),
    h("h2", { id: "dataset", tabindex: "-1" }, dataset.title),
    h("nav", { "aria-label": "Sections" }, sections.map(([id, title]) => h("a", { href: `#${id}`, onclick: (event) => jump(event, id) }, title))),
    ...sections.map(([id, title, make]) => h("section", { id, "aria-labelledby": `${id}-title` }, h("h2", { id: `${id}-title`, tabindex: "-1" }, title), make(dataset))));
}

// The address keeps the name of the dataset, so a link inside the page moves without changing it.
function jump(event, id) {
  event.preventDefault();
  document.getElementById(id).scrollIntoView();
  document.getElementById(`${id}-title`).focus({ preventScroll: true });
}

function named() {
  let name = location.hash.slice(1);
  try { name = decodeURIComponent(name); } catch { /* no encoded text: it names no dataset */ }
  return DATASETS.find((dataset) => dataset.name === name) || DATASETS[0];
}

window.addEventListener("hashchange", () => { if (DATASETS.length) open(named()); });
if (DATASETS.length) open(named());
else document.getElementById("main").append(h("h1", {}, "Results"), h("p", {}, "There are no results yet: `make train`, then `make report`."));
