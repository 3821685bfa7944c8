// What the page's JSON says, and how it is laid out: lines, columns, order. Computes no statistics.

const NONE = "none";
const VALUE = 0, INVALID = 1, MISSING = 2; // the order of cells when a table is sorted by value

let data, blocks;

function load(from) {
  blocks = new Map();
  data = JSON.parse(from.getElementById("data").textContent);
  data.axis = new Map(data.axes.map((axis) => [axis.name, axis]));
}

// A metric's or ratio's block is parsed when it is first asked for; null if the page does not hold it, or not yet.
function block(id) {
  const element = blocks.has(id) ? null : document.getElementById(id);
  if (element) blocks.set(id, JSON.parse(element.textContent));
  return blocks.get(id) ?? null;
}

// Calls at once if the page holds what a view needs; else when it is loaded whole: most blocks come after the script.
function whenHere(view, show) {
  const isHere = figures(view) && (view.baseline === NONE || !isOffered(metricOf(view), baselineOf(view)) || ratios(view));
  if (isHere || document.readyState !== "loading") show();
  else addEventListener("DOMContentLoaded", show, { once: true });
}

const metricOf = (view) => data.metrics.find((metric) => metric.name === view.metric);
const figures = (view) => block(`metric-${data.metrics.indexOf(metricOf(view))}`);

const baselineOf = (view) => data.baselines.find((each) => each.name === view.baseline);
const ratioId = (metric, baseline) => `ratio-${data.metrics.indexOf(metric)}-${data.baselines.indexOf(baseline)}`;
const isOffered = (metric, baseline) => data.ratios.includes(ratioId(metric, baseline));
const ratios = (view) => block(ratioId(metricOf(view), baselineOf(view)));

const label = (axis, point) => axis.values[axis.at[point]];

function downAxes(view) {
  const { spans } = metricOf(view);
  return data.axes.filter((axis) =>
    axis.name !== view.across && !spans.includes(axis.name) && (axis.always || axis.values.length > 1));
}

// Lines in the axes' order. A line's cells are points by the position of their column; `undefined` is an absent case.
function layout(view) {
  const down = downAxes(view), across = data.axis.get(view.across);
  const wanted = [...view.where].map(([name, value]) => [data.axis.get(name), value]);
  const byKey = new Map(), seen = new Set();
  for (let point = 0; point < data.points; point++) {
    if (!wanted.every(([axis, value]) => label(axis, point) === value)) continue;
    const column = across ? across.at[point] : 0;
    seen.add(column);
    let key = 0;
    for (const axis of down) key = key * axis.values.length + axis.at[point];
    let line = byKey.get(key);
    if (!line) byKey.set(key, (line = { key, first: point, cells: [] }));
    line.cells[column] = point;
  }
  const columns = [...seen].sort((a, b) => a - b);
  const all = [...byKey.values()];
  const lines = matching(view, all);
  return { down, columns, lines: sorted(view, { down, columns }, lines), total: all.length };
}

// Lines in which each word of the search is found, in a label or in what one of the cells says.
function matching(view, lines) {
  const words = view.search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!words.length) return lines;
  const shown = figures(view);
  return lines.filter((line) => {
    const said = line.cells.map((point) => searched(shown, point)).join("\n");
    return words.every((word) => said.includes(word));
  });
}

function searched(shown, point) {
  const state = data.states[shown.state[point]], notes = (shown.notes[point] || []).map((at) => data.texts[at]);
  const labels = data.axes.map((axis) => `${axis.name} ${label(axis, point)}`);
  return [...labels, state.word, data.marks[shown.mark[point]], ...notes].join("\n").toLowerCase();
}

function sorted(view, { down, columns }, lines) {
  const by = view.sort.replace(/^-/, ""), sign = view.sort.startsWith("-") ? -1 : 1;
  const axis = down.find((each) => each.name === by);
  if (!by) return lines.sort((a, b) => a.key - b.key);
  if (axis) return lines.sort((a, b) => sign * (axis.at[a.first] - axis.at[b.first]) || a.key - b.key);
  const column = columns.find((each) => [`value:${columnName(view, each)}`, `ratio:${columnName(view, each)}`].includes(by));
  const values = by.startsWith("ratio:") ? ratios(view) : figures(view);
  if (column === undefined || !values) return lines.sort((a, b) => a.key - b.key);
  const shown = figures(view);
  for (const line of lines) {
    const point = line.cells[column];
    const value = point === undefined ? null : values.value[point];
    line.number = value;
    line.group = value === null ? MISSING : data.states[shown.state[point]].kind === "invalid" ? INVALID : VALUE;
  }
  return lines.sort((a, b) => a.group - b.group || sign * (a.number - b.number) || a.key - b.key);
}

const columnName = (view, column) => (view.across === NONE ? "" : data.axis.get(view.across).values[column]);
