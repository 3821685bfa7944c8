// Light and dark: the system's choice, until the reader makes another one for this tab.

function stored(value) {
  try {
    if (value !== undefined) sessionStorage.setItem("theme", value);
    return sessionStorage.getItem("theme");
  } catch {
    return null; // a browser may refuse storage to local files
  }
}

function listenTheme() {
  const root = document.documentElement, dark = matchMedia("(prefers-color-scheme: dark)");
  const apply = () => {
    const theme = stored();
    if (theme === "dark" || theme === "light") root.dataset.theme = theme;
    by("theme").setAttribute("aria-pressed", String((root.dataset.theme || (dark.matches ? "dark" : "light")) === "dark"));
  };
  by("theme").addEventListener("click", () => {
    const theme = by("theme").getAttribute("aria-pressed") === "true" ? "light" : "dark";
    root.dataset.theme = theme;
    stored(theme);
    apply();
  });
  dark.addEventListener("change", apply);
  apply();
}
