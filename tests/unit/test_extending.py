"""docs/extending.md: each of its changes, made to a copy of the sources, is seen in each place that derives from it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from paths import ROOT

PAGE = ROOT / "docs" / "extending.md"
COPIED = ("docs", "images", "orchestrator", "runner", "sd_orchestrator", "pins.txt", "pyproject.toml")
HELPERS = ("docs_lists.py", "commands_page.py", "builders.py")
# A fenced block of a change (diff) or of a new file (python), whose first line names the file.
BLOCK = re.compile(r"^```(diff|python)\n# (\S+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def changed(text: str, diff: str) -> str:
    """A file's text with a diff applied. The diff's old lines stand there once."""
    lines = [line or " " for line in diff.splitlines()]
    before = "".join(f"{line[1:]}\n" for line in lines if line[0] in " -")
    after = "".join(f"{line[1:]}\n" for line in lines if line[0] in " +")
    assert text.count(before) == 1, f"docs/extending.md shows lines that are not there once:\n{before}"
    return text.replace(before, after)


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources with every change of the page."""
    root = tmp_path_factory.mktemp("extended")
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, root / name)
    (root / "tests/support").mkdir(parents=True)
    for name in HELPERS:
        shutil.copy(ROOT / "tests/support" / name, root / "tests/support" / name)
    for kind, path, text in BLOCK.findall(PAGE.read_text(encoding="utf-8")):
        file = root / path
        file.write_text(text if kind == "python" else changed(file.read_text(encoding="utf-8"), text), encoding="utf-8")
    return root


def run(copy: Path, *words: str) -> str:
    """What Python prints with the copied sources; both streams."""
    environ = {
        **os.environ,
        "PYTHONPATH": f"{copy}{os.pathsep}{copy / 'tests/support'}",
        "COLUMNS": "200",
        "NO_COLOR": "1",
    }
    ended = subprocess.run(
        [sys.executable, "-P", *words] if sys.version_info >= (3, 11) else [sys.executable, *words],
        cwd=copy, env=environ, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ended.stdout + ended.stderr


def test_the_page_changes_each_kind_of_thing() -> None:
    sections = re.split(r"^## ", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    shown = [section.splitlines()[0] for section in sections if BLOCK.search(section)]
    assert shown == ["An engine", "A model", "A host kind", "A column", "A metric", "An output format"]


def test_an_engine_is_planned_listed_and_has_its_module(copy: Path) -> None:
    (copy / "matrix.yaml").write_text("matrix: {engine: [eager, sliced]}\nrounds: 1\n")
    assert re.search(r"^local +1 +\w+ +sliced +single", run(copy, "-m", "orchestrator", "plan", "matrix.yaml"), re.M)
    assert "eager, sliced, onnxruntime" in run(copy, "-m", "runner", "--help")
    assert "found runner.engines.sliced" in run(
        copy, "-c", "import importlib.util as u; print('found', u.find_spec('runner.engines.sliced').name)"
    )


def test_a_model_is_planned_and_offered_for_a_misspelling(copy: Path) -> None:
    (copy / "matrix.yaml").write_text("matrix: {model: [synthetic:mini]}\nrounds: 1\n")
    assert "1 job, 1 case," in run(copy, "-m", "orchestrator", "plan", "matrix.yaml")
    (copy / "matrix.yaml").write_text("matrix: {model: [synthetic:minni]}\n")
    assert "did you mean 'synthetic:mini'?" in run(copy, "-m", "orchestrator", "plan", "matrix.yaml")


def test_a_host_kind_is_listed_checked_and_planned(copy: Path) -> None:
    hosts = copy / "hosts.yaml"
    hosts.write_text("hosts:\n  mine: {kind: scratch, folder: /tmp/mine, gpus: none}\n")
    assert re.search(r"^mine +scratch +/tmp/mine +none", run(copy, "-m", "orchestrator", "hosts"), re.M)
    assert re.search(r"folder.*/tmp/mine", run(copy, "-m", "orchestrator", "hosts", "--check"))
    (copy / "matrix.yaml").write_text("matrix: {engine: [eager]}\nrounds: 1\n")
    assert re.search(r"^mine +1 +\w+ +eager", run(copy, "-m", "orchestrator", "plan", "matrix.yaml"), re.M)
    hosts.write_text("hosts:\n  mine: {kind: scrach}\n")
    assert "did you mean 'scratch'?" in run(copy, "-m", "orchestrator", "hosts")
    hosts.write_text("hosts:\n  mine: {kind: scratch}\n")
    assert "hosts.yaml:2: folder" in run(copy, "-m", "orchestrator", "hosts")
    hosts.unlink()


def test_a_column_is_imported_and_shown_in_json(copy: Path) -> None:
    (copy / "other.csv").write_text("host,n_samples,latency,fan_rpm\na,1,2.0,1500\n")
    assert "1 rows (1 ok) in" in run(copy, "-m", "orchestrator", "import", "other.csv")
    assert '"fan_rpm": 1500.0' in run(copy, "-m", "orchestrator", "results", "-o", "json")
    (copy / "other.csv").write_text("host,n_samples,latency,fan_rpm\na,1,2.0,-3\n")
    assert "column fan_rpm: -3 is negative" in run(copy, "-m", "orchestrator", "import", "other.csv")


def test_a_metric_is_a_choice_and_a_table(copy: Path) -> None:
    (copy / "fast.csv").write_text("host,n_samples,latency,latency_min\na,1,2.0,1.75\n")
    run(copy, "-m", "orchestrator", "import", "fast.csv")
    said = run(copy, "-m", "orchestrator", "results", "fast", "--metric", "fastest")
    assert "Fastest, s per call (less is better)" in said
    assert "1.750" in said
    assert "cost, fastest, energy" in " ".join(run(copy, "-m", "orchestrator", "results", "--help").split())


def test_an_output_format_is_a_choice_and_writes(copy: Path) -> None:
    (copy / "named.csv").write_text("host,n_samples,latency\nfirst,1,2.0\nsecond,1,2.0\n")
    run(copy, "-m", "orchestrator", "import", "named.csv")
    assert run(copy, "-m", "orchestrator", "results", "named", "-o", "names").splitlines()[:2] == ["first", "second"]


def test_each_new_thing_is_in_the_files_that_are_written_from_declarations(copy: Path) -> None:
    for words in (
        ("tests/support/docs_lists.py",),
        ("-m", "orchestrator.config.jsonschemas"),
        ("-m", "orchestrator.report.document"),
    ):
        assert run(copy, *words) == ""
    derived = {
        "docs/engines.md": ["| `sliced` | CPU, GPU |"],
        "docs/columns.md": ["| `fan_rpm` | number | 1/min | runner |"],
        "docs/reading-the-table.md": ["| `fastest` | the fastest call |", "| `names` | the names of the columns"],
        "docs/hosts.md": ["| `scratch` | this machine, in a folder of its own |"],
        "orchestrator/data/hosts.schema.json": ['"scratch"', "where its jobs work"],
        "orchestrator/data/matrix.schema.json": ['"sliced"', "synthetic:mini|tiny|tiny-sdxl"],
        "orchestrator/data/results.schema.json": ['"fan_rpm"', '"fastest"'],
    }
    for file, said in derived.items():
        text = (copy / file).read_text(encoding="utf-8")
        assert [word for word in said if word not in text] == [], file
