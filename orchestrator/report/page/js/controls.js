// The controls above the table. They show the view, and change it.

function option(value, text, chosen) {
  const element = make("option", { value }, text);
  element.selected = value === chosen;
  return element;
}

function showControls(view) {
  by("metric").replaceChildren(...data.metrics.map((each) => option(each.name, each.title, view.metric)));
  const offered = data.baselines.filter((each) => isOffered(metricOf(view), each));
  if (view.baseline !== NONE && !offered.some((each) => each.name === view.baseline))
    offered.push(data.baselines.find((each) => each.name === view.baseline));
  by("baseline").replaceChildren(
    option(NONE, "no ratios", view.baseline),
    ...offered.map((each) => option(each.name, each.title, view.baseline)));
  const differing = data.axes.filter((axis) => axis.values.length > 1 || axis.name === view.across);
  by("across").replaceChildren(
    ...differing.map((axis) => option(axis.name, axis.name, view.across)), option(NONE, "one column", view.across));
  if (by("search") !== document.activeElement) by("search").value = view.search;
  showFilters(view);
  showSorts(view);
}

let filtersFor = null; // an axis may have a thousand values: their options are made once

function showFilters(view) {
  const filters = data.axes.filter((axis) => axis.values.length > 1);
  by("filters").hidden = !filters.length;
  if (view.where.size) by("filters").open = true;
  by("filter-count").textContent = view.where.size ? ` (${view.where.size})` : "";
  if (filtersFor !== data) by("axes").replaceChildren(...filters.map(filterOf));
  filtersFor = data;
  for (const select of by("axes").querySelectorAll("select")) select.value = view.where.get(select.dataset.axis) ?? "";
}

function filterOf(axis) {
  const id = `where-${data.axes.indexOf(axis)}`;
  const options = [option("", "all"), ...axis.values.map((value) => option(value, value))];
  return make("div", { class: "field" },
    make("label", { for: id }, axis.name), make("select", { id, "data-axis": axis.name }, ...options));
}

// Narrow screens hide the columns of all axes but the first: they are sorted here.
function showSorts(view) {
  const name = (key) => key.replace(/^value:/, "value ").replace(/^ratio:/, "ratio ").trim();
  const options = sortable(view).filter((key) => ratios(view) || !key.startsWith("ratio:"));
  by("sort").replaceChildren(option("", "axes", view.sort), ...options.flatMap((key) =>
    [option(key, `${name(key)} ↑`, view.sort), option(`-${key}`, `${name(key)} ↓`, view.sort)]));
}

function nextSort(view, key) {
  return view.sort === key ? `-${key}` : view.sort === `-${key}` ? "" : key;
}
