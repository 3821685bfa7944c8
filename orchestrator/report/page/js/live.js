// The served page follows its run: it fetches itself, and takes over the sections and the JSON that changed.

const EVERY_MS = 2000;

async function follow() {
  let tag = null;
  while (document.documentElement.dataset.live) {
    await new Promise((done) => setTimeout(done, EVERY_MS));
    try {
      const answer = await fetch(location.pathname, { cache: "no-cache", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status !== 304) {
        if (!answer.ok) throw new Error(`status ${answer.status}`);
        tag = answer.headers.get("ETag");
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
      }
      by("connection").hidden = true;
    } catch {
      by("connection").hidden = false;
    }
  }
}

const partsOf = (page) => new Map([...page.querySelectorAll("[data-part]")].map((part) => [part.dataset.part, part]));

// Scripts of a parsed document do not run, and the policy forbids handlers in attributes. A page that has gained a
// section, such as the first rows or the first failure, is loaded anew; the address keeps the view.
function take(next) {
  const old = partsOf(document), fresh = partsOf(next);
  if ([...fresh.keys()].join() !== [...old.keys()].join()) return location.reload();
  let hasNewData = false;
  for (const [name, part] of fresh) {
    const shown = document.importNode(part, true);
    for (const open of old.get(name).querySelectorAll("details[open][id]"))
      shown.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
    if (old.get(name).isEqualNode(shown)) continue;
    old.get(name).replaceWith(shown);
    hasNewData ||= name.endsWith("data");
  }
  document.title = next.title;
  if (!next.documentElement.dataset.live) delete document.documentElement.dataset.live;
  if (hasNewData) {
    load(document);
    view = { ...fromFragment(isPlace(location.hash) ? "" : location.hash), page: view.page };
    show();
  }
}
