// Everything about one cell, in a dialog that the keyboard opens and closes.

function showDetails(view, point) {
  const list = by("details-list");
  const axes = data.axes.filter((axis) => axis.always || axis.values.length > 1);
  by("details-title").textContent = axes.map((axis) => `${axis.name} ${label(axis, point)}`).join(" · ");
  list.replaceChildren();
  const add = (name, ...texts) => {
    if (texts.length) list.append(make("dt", {}, name), ...texts.map((text) => make("dd", {}, text)));
  };
  const shown = figures(view), state = data.states[shown.state[point]];
  add(metricOf(view).title, figureWords(metricOf(view), shown, point));
  add("State", state.meaning ? `${state.word}: ${state.meaning}` : state.word);
  add("Notes", ...(shown.notes[point] || []).map((at) => data.texts[at]));
  data.baselines.forEach((baseline, i) => {
    const found = block(`ratio-${data.metrics.indexOf(metricOf(view))}-${i}`);
    if (found) add(`Ratio to ${baseline.title}`, ratioWords(found, point), ...(found.notes[point] || []).map((at) => data.texts[at]));
  });
  for (const metric of data.metrics) {
    const other = metric.name !== view.metric && block(`metric-${data.metrics.indexOf(metric)}`);
    if (other && other.value[point] !== null) add(metric.title, figureWords(metric, other, point));
  }
  by("details").showModal();
}

const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };

// Arrow keys go from value to value, over cells without one.
function walk(event) {
  const cell = event.target.closest("button.cell")?.parentElement, step = STEPS[event.key];
  if (!cell || !step || event.ctrlKey || event.altKey || event.metaKey) return;
  const [down, right] = step, rows = by("body").rows;
  let row = cell.parentElement.sectionRowIndex, column = cell.cellIndex;
  do {
    row += down;
    column += right;
    if (!rows[row]?.cells[column]) return;
  } while (!rows[row].cells[column].querySelector("button.cell"));
  event.preventDefault();
  rows[row].cells[column].querySelector("button.cell").focus();
}

function figureWords(metric, shown, point) {
  if (shown.value[point] === null) return data.states[shown.state[point]].word;
  const mark = data.marks[shown.mark[point]];
  return [`${shown.text[point]} ${shown.spread[point]}`.trim(), metric.unit, mark && `(${mark})`].filter(Boolean).join(" ");
}

function ratioWords(found, point) {
  const verdict = data.verdicts[found.verdict[point]].word;
  return found.value[point] === null ? verdict : [found.text[point], found.interval[point], verdict].filter(Boolean).join(" ");
}
