const PAGE = 100;
let view;

function show({ limit = PAGE, isPrinted = false } = {}) {
  const found = layout(view), { first, shown, pages } = showTable(view, found, limit, isPrinted);
  by("region").classList.toggle("many", found.columns.length > 2);
  showControls(view);
  const lines = found.lines.length, word = lines === 1 ? "line" : "lines";
  const of = lines === found.total ? `${lines} ${word}` : `${lines} of ${found.total} lines match`;
  by("count").textContent = pages > 1 ? `Lines ${first + 1}–${first + shown} of ${of}` : of;
  by("pager").hidden = pages < 2;
  by("previous").disabled = view.page === 1;
  by("next").disabled = view.page === pages;
  by("reset").disabled = toFragment(view) === "";
}

function say() {
  const key = view.sort.replace(/^-/, "").replace(/^(value|ratio):/, "$1 ");
  const order = key ? `Sorted by ${key}, ${view.sort.startsWith("-") ? "descending" : "ascending"}. ` : "";
  by("said").textContent = `${by("caption").textContent}. ${order}${by("count").textContent}.`;
}

function change(changes, { replacing = false } = {}) {
  view = { ...view, page: 1, ...changes };
  if (!sortable(view).includes(view.sort.replace(/^-/, ""))) view.sort = "";
  whenHere(view, () => {
    show();
    remember(view, { replacing });
    say();
  });
}

function restore() {
  if (isPlace(location.hash)) return;
  view = fromFragment(location.hash);
  whenHere(view, () => {
    show();
    say();
  });
}

function listen() {
  for (const name of ["metric", "baseline", "across", "sort"])
    by(name).addEventListener("change", (event) => change({ [name]: event.target.value }));
  let waiting;
  by("search").addEventListener("input", (event) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => change({ search: event.target.value }, { replacing: true }), 150);
  });
  by("axes").addEventListener("change", (event) => {
    const where = new Map(view.where), { value, dataset } = event.target;
    if (value) where.set(dataset.axis, value);
    else where.delete(dataset.axis);
    change({ where });
  });
  by("reset").addEventListener("click", () => {
    by("search").value = "";
    change(defaults());
    by("metric").focus();
  });
  by("previous").addEventListener("click", () => turn(-1));
  by("next").addEventListener("click", () => turn(1));
  by("table").addEventListener("click", pressed);
  by("table").addEventListener("keydown", walk);
  addEventListener("hashchange", restore);
  addEventListener("popstate", restore);
}

function turn(step) {
  change({ page: view.page + step });
  by("region").scrollTop = 0;
  by("table").scrollIntoView({ block: "start" });
}

function pressed(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.point) return showDetails(view, Number(button.dataset.point));
  const key = button.dataset.sort;
  change({ sort: nextSort(view, key) });
  document.querySelector(`#head [data-sort="${CSS.escape(key)}"]`)?.focus();
}

function start() {
  listenTheme();
  listenPrinting();
  if (by("data")) {
    load(document);
    view = isPlace(location.hash) ? defaults() : fromFragment(location.hash);
    listen();
    whenHere(view, () => show());
  }
  document.documentElement.classList.add("js");
  if (document.documentElement.dataset.live) follow();
}

start();
