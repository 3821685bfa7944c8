// The served page follows its run: it fetches itself, and takes over the sections and the JSON that changed.

const EVERY_MS = 2000;

async function follow() {
  let tag = null;
  for (;;) {
    await new Promise((done) => setTimeout(done, EVERY_MS));
    try {
      const answer = await fetch(location.pathname, { cache: "no-cache", headers: tag ? { "If-None-Match": tag } : {} });
      if (answer.status !== 304 && !answer.ok) throw new Error(`status ${answer.status}`);
      if (answer.status !== 304 && answer.headers.get("ETag") !== tag) {
        take(new DOMParser().parseFromString(await answer.text(), "text/html"));
        tag = answer.headers.get("ETag");
      }
      by("connection").hidden = true;
    } catch {
      by("connection").hidden = false;
      continue;
    }
    if (!document.documentElement.dataset.live) return;
  }
}

// Scripts of a parsed document do not run, and the policy forbids handlers in attributes.
function take(next) {
  let hasNewData = false;
  for (const fresh of next.querySelectorAll("[data-part]")) {
    const old = document.querySelector(`[data-part="${CSS.escape(fresh.dataset.part)}"]`);
    if (!old || old.isEqualNode(fresh)) continue;
    keepOpen(old, fresh);
    hasNewData ||= fresh.dataset.part === "data";
    old.replaceWith(document.importNode(fresh, true));
  }
  if (!next.documentElement.dataset.live) delete document.documentElement.dataset.live;
  document.title = next.title;
  if (!hasNewData || !by("data")) return;
  load(document);
  view = { ...fromFragment(isPlace(location.hash) ? "" : location.hash), page: view ? view.page : 1 };
  show();
}

function keepOpen(old, fresh) {
  for (const open of old.querySelectorAll("details[open][id]")) fresh.querySelector(`#${CSS.escape(open.id)}`)?.setAttribute("open", "");
}
