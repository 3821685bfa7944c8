"""Renders figures as SVG, PNG and interactive HTML, without a browser and without a network."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.files import write_atomically
from orchestrator.report.figures.figure import Figure
from orchestrator.report.figures.theme import PAGE, config

VEGA_LITE = "6.4"
NEEDED = ("altair>=6", "vl-convert-python>=1.9")
SCALE = 2  # pixels of the PNG for each of the SVG
# What Vega says of single marks: a screen reader gets the text alternative of the whole figure.
_ARIA = re.compile(r' (?:role="graphics-[a-z]+"|aria-(?:roledescription|label)="[^"]*")')
_IDS = re.compile(r'(\bid="|url\(#|href="#)')


def specification(figure: Figure, dark: bool = False) -> Mapping[str, Any]:
    """Returns the chart with its colours."""
    return {**figure.chart, "config": config(dark)}


def svg(figure: Figure, dark: bool = False) -> str:
    """Returns the figure as SVG with its text alternative. Ids are unique to the figure, so that a page can hold many.

    Raises InputError with the command that installs what is missing.
    """
    name = f"{figure.name}-dark" if dark else figure.name
    drawn = _vl_convert().vegalite_to_svg(specification(figure, dark), vl_version=VEGA_LITE, allowed_base_urls=[])
    drawn = _IDS.sub(lambda match: f"{match[1]}{name}-", _ARIA.sub("", drawn))
    head = f'role="img" aria-labelledby="{name}-title {name}-desc"'
    about = (
        f'<title id="{name}-title">{html.escape(figure.title)}</title>'
        f'<desc id="{name}-desc">{html.escape(figure.alt)}</desc>'
    )
    return re.sub(r"<svg\b([^>]*)>", lambda match: f"<svg {head}{match[1]}>{about}", drawn, count=1)


def png(figure: Figure, dark: bool = False) -> bytes:
    drawn: bytes = _vl_convert().vegalite_to_png(
        specification(figure, dark), vl_version=VEGA_LITE, scale=SCALE, allowed_base_urls=[]
    )
    return drawn


def page(figure: Figure) -> str:
    """Returns an interactive HTML page that requests nothing, follows the reader's colour scheme, evaluates no text."""
    bundle = _vl_convert().javascript_bundle(vl_version=VEGA_LITE)
    specs = {"light": specification(figure), "dark": specification(figure, dark=True)}
    script = _SCRIPT.replace("SPECS", _in_script(specs)).replace("NAME", json.dumps(figure.name))
    hashes = " ".join(f"'sha256-{_sha256(text)}'" for text in (bundle, script))
    return _PAGE.format(
        hashes=hashes,
        title=html.escape(figure.title),
        alt=html.escape(figure.alt),
        light=PAGE[False],
        dark=PAGE[True],
        bundle=bundle,
        script=script,
    )


def write(figures: Iterable[Figure], folder: Path) -> list[Path]:
    """Writes each figure as HTML, SVG (light and dark) and PNG. Returns the files' paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for figure in figures:
        for name, content in (
            (f"{figure.name}.html", page(figure).encode()),
            (f"{figure.name}.svg", svg(figure).encode()),
            (f"{figure.name}-dark.svg", svg(figure, dark=True).encode()),
            (f"{figure.name}.png", png(figure)),
        ):
            write_atomically(folder / name, content)
            paths.append(folder / name)
    return paths


def _vl_convert() -> Any:
    try:
        import vl_convert
    except ImportError as error:
        raise missing(error) from error
    return vl_convert


def missing(error: ImportError) -> InputError:
    """The message for an installation without the extra `report`."""
    from orchestrator.installation import command

    return InputError(f"figures need {error.name}, which is not installed; fix: {command('report', NEEDED)}")


def _in_script(value: object) -> str:
    """Returns JSON that no HTML parser reads as markup."""
    return re.sub("[<>&\u2028\u2029]", lambda match: f"\\u{ord(match[0]):04x}", json.dumps(value))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


_SCRIPT = """
const specs = SPECS, scheme = matchMedia("(prefers-color-scheme: dark)");
const draw = () => vegaEmbed("#figure", specs[scheme.matches ? "dark" : "light"], {
  ast: true, renderer: "svg", downloadFileName: NAME,
  actions: {export: true, source: false, compiled: false, editor: false},
});
scheme.addEventListener("change", draw);
draw();
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark }}
body {{ margin: 0; background: {light}; overflow-x: auto }}
@media (prefers-color-scheme: dark) {{ body {{ background: {dark} }} }}
.text {{ position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%) }}
</style>
</head>
<body>
<main>
<h1 class="text">{title}</h1>
<p class="text">{alt}</p>
<div id="figure" aria-hidden="true"></div>
</main>
<script>{bundle}</script>
<script>{script}</script>
</body>
</html>
"""
