// Read the data of the page (scripts/common/report/html_report.py writes them), and count over rows.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const ABSENT = 65535; // the run has not scored the row
const NO_LABEL = 65534; // the generated text is no label
const UNITS = 10000; // of a probability

function numbers(base64) {
  const view = new DataView(Uint8Array.from(atob(base64), (character) => character.charCodeAt(0)).buffer);
  return Uint16Array.from({ length: view.byteLength / 2 }, (_, place) => view.getUint16(2 * place, true));
}

// The rows of one split, and what every run predicted for them.
class RowSet {
  constructor(content, labels) {
    Object.assign(this, { split: content.split, ids: content.ids, notes: content.notes, groups: content.groups });
    this.labels = labels;
    this.total = content.total;
    this.n = content.ids.length;
    this.gold = numbers(content.gold);
    this.group = content.group ? numbers(content.group) : null;
    this.columns = content.texts;
    this.runs = new Map(content.predictions.map((entry) => [entry.run, {
      predicted: numbers(entry.predicted),
      confidence: numbers(entry.confidence),
      gold: numbers(entry.gold),
      generated: entry.generated,
    }]));
    this.folded = null;
    this.wrong = null;
  }

  texts(row) {
    return this.columns.map((column) => column.texts[column.places ? column.places[row] : row]);
  }

  // The text columns for a line of the list: those first whose texts do not repeat.
  order() {
    return this.columns.map((_, place) => place).sort((a, b) => Boolean(this.columns[a].places) - Boolean(this.columns[b].places));
  }

  has(run, row) {
    return this.runs.get(run).predicted[row] !== ABSENT;
  }

  right(run, row) {
    return this.runs.get(run).predicted[row] === this.gold[row];
  }

  predictedName(run, row) {
    const place = this.runs.get(run).predicted[row];
    if (place === ABSENT) return "not scored";
    return place === NO_LABEL ? "no label" : this.labels[place];
  }

  // Folded id and texts of every row, for the search; made at the first search.
  haystacks() {
    if (!this.folded) this.folded = this.ids.map((id, row) => fold([id, ...this.texts(row)].join("\n")));
    return this.folded;
  }

  // For every row the number of runs that are wrong.
  wrongCounts() {
    if (!this.wrong) {
      this.wrong = new Uint16Array(this.n);
      for (const { predicted } of this.runs.values()) {
        for (let row = 0; row < this.n; row += 1) this.wrong[row] += predicted[row] !== ABSENT && predicted[row] !== this.gold[row];
      }
    }
    return this.wrong;
  }

  // Counts by gold label (rows) and predicted label (columns; the last one is "no label").
  confusion(run) {
    const size = this.labels.length;
    const matrix = this.labels.map(() => new Array(size + 1).fill(0));
    const { predicted } = this.runs.get(run);
    for (let row = 0; row < this.n; row += 1) {
      if (predicted[row] !== ABSENT && this.gold[row] < size) matrix[this.gold[row]][Math.min(predicted[row], size)] += 1;
    }
    return matrix;
  }

  // Rows by who is right: both, only a, only b, none.
  outcomes(a, b) {
    const found = { both: 0, a: 0, b: 0, none: 0 };
    for (let row = 0; row < this.n; row += 1) {
      if (this.has(a, row) && this.has(b, row)) found[who(this.right(a, row), this.right(b, row))] += 1;
    }
    return found;
  }
}

function who(a, b) {
  if (a) return b ? "both" : "a";
  return b ? "b" : "none";
}

// The two-sided p value of McNemar's exact test: of n rows on which one of two runs is right, `one` are the first run's.
function mcnemar(one, other) {
  const n = one + other;
  let sum = 0;
  let term = -n * Math.LN2; // the logarithm of a binomial probability
  for (let k = 0; k <= Math.min(one, other); k += 1) {
    sum += Math.exp(term);
    term += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * sum);
}

// One dataset, with what the user has chosen: two runs and a row set.
class Dataset {
  constructor(content) {
    Object.assign(this, content);
    this.lead = content.scores[0][0];
    this.leadName = content.scores[0][1];
    this.modelOf = [];
    [this.best, this.second] = [null, null];
    this.models.forEach((model) => model.runs.forEach((run) => { this.modelOf[run] = model; }));
    if (this.models.length) this.chooseFirst(); // of a dataset with learning curves alone there are none
    this.place = 0;
    this.decoded = new Map();
    this.forget();
    this.filter = { gold: "", predicted: "", outcome: "", group: "", query: "", sort: "file" };
  }

  // The best model and the next one, and the two runs that are shown at first.
  chooseFirst() {
    const compared = this.models.some((model) => !model.ablation) ? this.models.filter((model) => !model.ablation) : this.models;
    this.best = this.models.find((model) => model.best) || [...compared].sort((a, b) => this.score(b) - this.score(a))[0];
    const rivals = compared.filter((model) => model !== this.best && model.chosen);
    this.second = rivals.sort((a, b) => this.score(b) - this.score(a))[0] || null;
    // At first the best two are chosen, of those whose predictions are here if there are any.
    const here = new Set(this.row_sets.flatMap((set) => set.predictions.map((entry) => entry.run)));
    const isHere = (model) => model.runs.some((run) => here.has(run));
    const byScore = [...compared].sort((a, b) => isHere(b) - isHere(a) || this.score(b) - this.score(a));
    const one = isHere(this.best) ? this.best : byScore.find((model) => isHere(model) && !model.baseline) || byScore[0];
    const two = byScore.find((model) => model !== one) || one;
    [this.run, this.other] = [one, two].map((model) => model.runs.find((run) => here.has(run)) ?? model.runs[0]);
  }

  score(model) {
    return mean(model.scores[this.lead]);
  }

  runName(run) {
    const { seed } = this.runs[run];
    const model = this.modelOf[run];
    return model.runs.length > 1 ? `${model.name}, seed ${seed}` : model.name;
  }

  rows() {
    if (!this.row_sets.length) return null;
    if (!this.decoded.has(this.place)) this.decoded.set(this.place, new RowSet(this.row_sets[this.place], this.labels));
    return this.decoded.get(this.place);
  }

  // Forget the sections of an earlier page.
  forget() {
    this.onChoice = []; // called when a run or a row set is chosen
    this.onRows = []; // called then, and when the filter of the rows changes
  }

  // Change what is chosen or the filter of the rows, and tell the sections.
  choose(changes, filter = {}) {
    Object.assign(this, changes);
    Object.assign(this.filter, filter);
    if (Object.keys(changes).length) this.onChoice.forEach((listener) => listener());
    this.onRows.forEach((listener) => listener());
  }

  known(run) {
    return Boolean(this.rows() && this.rows().runs.has(run));
  }
}
