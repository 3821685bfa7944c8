// The view, and its form in the address: everything that differs from the default view. A name that the page does not
// know is ignored.

function defaults() {
  return { ...data.view, sort: "", search: "", where: new Map(), page: 1 };
}

function fromFragment(fragment) {
  const view = defaults();
  let given;
  try {
    given = new URLSearchParams(fragment.replace(/^#/, ""));
  } catch {
    return view;
  }
  const choose = (name, known) => {
    const value = given.get(name);
    if (value !== null && known.includes(value)) view[name] = value;
  };
  choose("metric", data.metrics.map((metric) => metric.name));
  choose("baseline", [NONE, ...data.baselines.map((baseline) => baseline.name)]);
  choose("across", [NONE, ...data.axes.map((axis) => axis.name)]);
  view.search = (given.get("search") || "").slice(0, 200);
  const page = Number(given.get("page"));
  if (Number.isInteger(page) && page > 0) view.page = page;
  for (const [name, value] of given) {
    const axis = name.startsWith("where.") ? data.axis.get(name.slice(6)) : undefined;
    if (axis && axis.values.includes(value)) view.where.set(axis.name, value);
  }
  const sort = given.get("sort") || "";
  if (sortable(view).includes(sort.replace(/^-/, ""))) view.sort = sort;
  return view;
}

function sortable(view) {
  const across = data.axis.get(view.across);
  const columns = across ? across.values : [""];
  return [...downAxes(view).map((axis) => axis.name), ...columns.flatMap((name) => [`value:${name}`, `ratio:${name}`])];
}

function toFragment(view) {
  const usual = defaults(), given = new URLSearchParams();
  for (const name of ["metric", "baseline", "across", "sort", "search"])
    if (view[name] !== usual[name]) given.set(name, view[name]);
  for (const [name, value] of view.where) given.set(`where.${name}`, value);
  if (view.page > 1) given.set("page", view.page);
  return given.toString();
}

// A fragment that names a place on the page, such as #failures, leaves the view as it is.
const isPlace = (fragment) => fragment.length > 1 && !fragment.includes("=");

function remember(view, { replacing }) {
  const fragment = toFragment(view), address = fragment ? `#${fragment}` : location.pathname + location.search;
  if (`#${fragment}` === location.hash || (!fragment && !location.hash)) return;
  history[replacing ? "replaceState" : "pushState"](null, "", address);
}
