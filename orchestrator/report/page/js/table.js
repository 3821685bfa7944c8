// The table's elements. Text enters by textContent alone.

function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes))
    if (value !== undefined && value !== false) element.setAttribute(key, value === true ? "" : value);
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

const by = (id) => document.getElementById(id);
const digits = (count) => `w${Math.min(count, 12)}`;

function showTable(view, found, limit, isPrinted) {
  const pages = Math.max(1, Math.ceil(found.lines.length / limit));
  view.page = Math.min(view.page, pages);
  const first = (view.page - 1) * limit, lines = found.lines.slice(first, first + limit);
  const footnotes = new Map();
  const widths = found.columns.map((column) => widthsOf(view, lines, column));
  const body = document.createDocumentFragment();
  for (const line of lines) body.append(tableLine(view, found, line, widths, footnotes));
  by("head").replaceChildren(...tableHead(view, found, isPrinted));
  by("body").replaceChildren(body);
  by("caption").textContent = caption(view);
  by("empty").hidden = found.lines.length > 0;
  by("footnotes").replaceChildren(...[...footnotes.keys()].map((at) => make("li", {}, data.texts[at])));
  by("footnotes").hidden = !footnotes.size;
  showAbout(view);
  return { first, shown: lines.length, pages };
}

function caption(view) {
  const metric = metricOf(view), baseline = data.baselines.find((each) => each.name === view.baseline);
  const ratio = metric.remark || (baseline ? `× is the ratio to ${baseline.title}` : "");
  return [`${metric.title} in ${metric.unit}`, metric.better, ratio].filter(Boolean).join("; ");
}

function showAbout(view) {
  const shown = figures(view), found = ratios(view);
  const texts = [...shown.about, ...(found ? found.about : [])];
  if (view.baseline !== NONE && !found && !metricOf(view).remark)
    texts.push(`This page does not hold these ratios. Show them with: ${command(view)}`);
  by("about").replaceChildren(...texts.map((text) => make("li", {}, text)));
}

const command = (view) => `${data.command} --metric ${view.metric} --baseline '${view.baseline.replaceAll("'", "")}'`;

function widthsOf(view, lines, column) {
  const shown = figures(view), width = { whole: 0, part: 0, spread: 0 };
  for (const line of lines) {
    const point = line.cells[column];
    if (point === undefined || shown.value[point] === null) continue;
    const [whole, part] = split(shown.text[point]);
    width.whole = Math.max(width.whole, whole.length);
    width.part = Math.max(width.part, part.length);
    width.spread = Math.max(width.spread, shown.spread[point].length);
  }
  return width;
}

function split(text) {
  const at = text.indexOf(".");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at)];
}

// On paper the headings are text: Chromium repeats them on each sheet without their buttons.
function tableHead(view, { down, columns }, isPrinted) {
  const heading = isPrinted ? plainHeading : sortHeading;
  const metric = metricOf(view), hasRatios = ratios(view) !== null, hosts = data.axis.get(view.across);
  const top = make("tr"), second = make("tr");
  down.forEach((axis, i) =>
    top.append(heading(view, axis.name, axis.name, { rowspan: 2, class: i ? "rest" : "first" }, axis.numeric)));
  for (const column of columns) {
    const about = hosts && hosts.about ? hosts.about[column] : "";
    const name = columnName(view, column) || metric.title;
    top.append(make("th", { scope: "colgroup", colspan: hasRatios ? 2 : 1, class: "column" },
      make("span", { class: "name" }, name), about ? make("small", {}, about) : null));
    second.append(heading(view, `value:${columnName(view, column)}`, metric.unit, { class: "value" }, true, name));
    if (hasRatios) second.append(heading(view, `ratio:${columnName(view, column)}`, `× ${view.baseline}`, { class: "ratio" }, true, name));
  }
  return [top, second];
}

function plainHeading(view, key, text, attributes, numeric) {
  return make("th", { scope: "col", ...attributes, class: numeric ? `${attributes.class} number` : attributes.class }, text + arrow(view, key));
}

const arrow = (view, key) => (view.sort === key ? " ▲" : view.sort === `-${key}` ? " ▼" : "");

function sortHeading(view, key, text, attributes, numeric, column = "") {
  const sort = { " ▲": "ascending", " ▼": "descending" }[arrow(view, key)];
  const kind = numeric ? `${attributes.class} number` : attributes.class;
  const hidden = column ? make("span", { class: "hidden" }, `${column}: `) : null;
  const button = make("button", { type: "button", class: "sort", "data-sort": key }, hidden, text);
  return make("th", { scope: "col", ...attributes, class: kind, "aria-sort": sort }, button);
}

function tableLine(view, { down, columns }, line, widths, footnotes) {
  const [first, ...rest] = down.map((axis) => [axis, label(axis, line.first)]);
  const row = make("tr");
  if (first) {
    const whole = rest.map(([axis, text]) => (axis.named ? `${axis.name}\u00a0${text}` : text)).join(" · ");
    row.append(make("th", { scope: "row", class: first[0].numeric ? "first number" : "first" },
      first[1], whole && make("span", { class: "joined" }, whole)));
  }
  for (const [axis, text] of rest) row.append(make("td", { class: axis.numeric ? "rest number" : "rest" }, text));
  columns.forEach((column, i) => row.append(...cells(view, line.cells[column], widths[i], footnotes)));
  return row;
}

function cells(view, point, width, footnotes) {
  const found = ratios(view);
  if (point === undefined) {
    const absent = make("td", { class: "absent" }, "not in the matrix");
    return found ? [absent, make("td", { class: "ratio" })] : [absent];
  }
  const value = make("td", { class: `value ${data.states[figures(view).state[point]].kind}` },
    make("button", { type: "button", class: "cell", "data-point": point, "aria-haspopup": "dialog" },
      ...valueParts(figures(view), point, width, footnotes)));
  return found ? [value, make("td", { class: `ratio ${data.verdicts[found.verdict[point]].kind}` }, ...ratioParts(found, point, footnotes))] : [value];
}

function valueParts(shown, point, width, footnotes) {
  const state = data.states[shown.state[point]], mark = data.marks[shown.mark[point]];
  const notes = marksOf(shown.notes[point], footnotes);
  if (shown.value[point] === null) return [make("span", { class: "word" }, state.word), ...notes];
  const [whole, part] = split(shown.text[point]);
  return [
    make("span", { class: `whole ${digits(width.whole)}` }, whole),
    make("span", { class: `part ${digits(width.part)}` }, part),
    ...spaced([
      width.spread ? make("span", { class: `spread ${digits(width.spread)}` }, shown.spread[point]) : null,
      mark ? make("span", { class: `mark ${mark.split(" ")[0]}` }, mark) : null,
      state.kind === "value" ? null : make("span", { class: "word" }, state.word),
    ]),
    ...notes,
  ];
}

function ratioParts(found, point, footnotes) {
  const verdict = data.verdicts[found.verdict[point]], notes = marksOf(found.notes[point], footnotes);
  if (found.value[point] === null) return [make("span", { class: "word" }, verdict.word), ...notes];
  return [
    make("span", { class: "times" }, found.text[point]),
    ...spaced([
      found.interval[point] ? make("span", { class: "interval" }, found.interval[point]) : null,
      make("span", { class: "word" }, verdict.word),
    ]),
    ...notes,
  ];
}

// With a space before each, so that copied text has its words apart.
const spaced = (elements) => elements.filter(Boolean).flatMap((element) => [" ", element]);

function marksOf(notes, footnotes) {
  return (notes || []).flatMap((at) => {
    if (!footnotes.has(at)) footnotes.set(at, footnotes.size + 1);
    return [" ", make("sup", {}, `[${footnotes.get(at)}]`)];
  });
}
