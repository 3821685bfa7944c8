"""The two files as a user writes them: what they give, and every way in which they can be wrong."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from paths import ROOT

from orchestrator import config
from orchestrator.config import DockerHost, ProcessHost, jsonschemas, problems
from orchestrator.config.matrixfile import MatrixFile
from orchestrator.errors import InputError
from orchestrator.planning.plan import make_plan
from runner.schema import Precision

HOST_FILES = sorted([ROOT / "hosts.yaml", *ROOT.glob("examples/hosts*.yaml")])
MATRIX_FILES = sorted([ROOT / "matrix.yaml", *(p for p in ROOT.glob("examples/*.yaml") if p not in HOST_FILES)])
Write = Callable[[str | bytes], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(content: str | bytes) -> Path:
        path = tmp_path / "m.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def problems_of(load: Callable[..., Any], path: Path, *more: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        load(path, *more)
    return [problem.replace(str(path), "m.yaml") for problem in caught.value.problems]


def test_without_a_file_there_is_this_machine() -> None:
    hosts = config.load_hosts(None)
    assert hosts == {"local": ProcessHost(name="local")}
    assert config.select(hosts, None) == (ProcessHost(name="local"),)


def test_this_machine_is_there_beside_a_file_but_not_chosen_by_default(write: Write) -> None:
    hosts = config.load_hosts(write("hosts: {a: {kind: docker}, b: {kind: process, threads: 2}}"))
    assert list(hosts) == ["local", "a", "b"]
    assert [host.name for host in config.select(hosts, None)] == ["a", "b"]
    assert [host.name for host in config.select(hosts, ["b", "local"])] == ["b", "local"]


def test_a_file_may_define_local_anew(write: Write) -> None:
    hosts = config.load_hosts(write("hosts: {local: {kind: process, threads: 2}}"))
    assert config.select(hosts, None) == (ProcessHost(name="local", threads=2),)


def test_defaults_go_under_every_host_that_knows_the_key(write: Write) -> None:
    text = "hosts: {a: {gpus: [0]}, b: {kind: process}, c: {shm: 4g}}\ndefaults: {kind: docker, shm: 2g, threads: 3}"
    hosts = config.load_hosts(write(text))
    assert hosts["a"] == DockerHost(name="a", gpus=(0,), shm="2g", threads=3)
    assert hosts["b"] == ProcessHost(name="b", threads=3)
    assert hosts["c"] == DockerHost(name="c", shm="4g", threads=3)
    assert hosts["local"] == ProcessHost(name="local")


def test_an_anchor_saves_writing(write: Write) -> None:
    hosts = config.load_hosts(write("hosts:\n  a: &a {kind: docker, shm: 2g}\n  b: {<<: *a, gpus: none}"))
    assert hosts["b"] == DockerHost(name="b", shm="2g", gpus="none")


def test_a_host_that_is_not_there_and_one_named_twice_are_told_together() -> None:
    with pytest.raises(InputError) as caught:
        config.select(config.load_hosts(None), ["locl", "local", "local"])
    assert caught.value.problems == (
        "host 'locl' is not in the inventory; did you mean 'local'?",
        "host 'local' is named twice",
    )


def test_all_problems_of_an_inventory_come_at_once_in_its_order(write: Write) -> None:
    text = """hosts:
  a: {kind: dcker}
  b: {gpus: none}
  c: {kind: docker, url: "tcp://desk:2376", memory: 16}
  d: {kind: docker, gpus: [0, first], gpu_acess: cdi}
  e: {kind: podman}
  f/g: {kind: process}
  h: {kind: process, url: ssh://desk}
  i:
  j: {kind: docker, tls: {ca: ca.pem, cert: cert.pem}, name: x}
  k: {kind: 3}
  k: {kind: docker}
defaults: {prise: 1, price_per_hour: -1}
host: {}
"""
    found = problems_of(config.load_hosts, write(text.replace("  k: {kind: docker}\n", "")))
    assert found == [
        "m.yaml:2: kind 'dcker' is unknown; did you mean 'docker'?",
        "m.yaml:3: host 'b' has no kind; it is one of process, docker, kubernetes",
        "m.yaml:4: tls is missing: without it tcp://desk:2376 gives anyone who can reach that port "
        "root access to that machine; "
        "fix: add tls: {ca: ca.pem, cert: cert.pem, key: key.pem}, use ssh://, or say insecure: true",
        "m.yaml:4: memory must be a size such as 16g, not 16",
        'm.yaml:5: gpus must be all, none, or a list of indices and UUIDs such as [0, 1] or [GPU-…], not [0, "first"]',
        "m.yaml:5: unknown key 'gpu_acess'; did you mean 'gpu_access'?",
        "m.yaml:6: kind 'podman' is unknown; it is one of process, docker, kubernetes",
        "m.yaml:7: name must be 1 to 63 letters, digits, '_', '.' or '-', with a letter or digit at both ends, "
        "not 'f/g'",
        "m.yaml:8: unknown key 'url'; it is one of price_per_hour, gpus, gpus_per_job, compute_capability, threads, "
        "env, ca_bundle, kind, weights",
        "m.yaml:9: host 'i' must be keys and values, such as {kind: docker}, not nothing",
        "m.yaml:10: unknown key 'name'; a host's name is the key that it stands under",
        "m.yaml:10: key is missing",
        "m.yaml:11: kind 3 is unknown; it is one of process, docker, kubernetes",
        "m.yaml:12: unknown key 'prise'; did you mean 'price_per_hour'?",
        "m.yaml:12: price_per_hour must be at least 0, not -1",
        "m.yaml:13: unknown key 'host'; did you mean 'hosts'?",
    ]
    assert problems_of(config.load_hosts, write(text)) == ["m.yaml:12: 'k' appears twice; it is first in line 11"]


def test_all_problems_of_a_matrix_come_at_once_in_its_order(write: Write) -> None:
    text = """nam: x
matrix:
  engine: [eager, onxx]
  samples: [0, true, "1",
            1.5]
  stps: [1]
  height: [7]
  width: []
  steps: 5
include: [{engin: eager}, {samples: x}]
exclude: [{hst: a}, {device: gpu}]
until: {rel_ci: 2, max_repeat: 3}
timeout: soon
name: 1.0
autocast: maybe
samples: [1]
precision: full
model: synthetic:tinny
prompt: on
guidance: .nan
seed:
"""
    assert problems_of(config.load_matrix, write(text)) == [
        "m.yaml:1: unknown key 'nam'; did you mean 'name'?",
        "m.yaml:3: engine 'onxx' is unknown; did you mean 'onnxruntime'?",
        "m.yaml:4: samples must be at least 1, not 0",
        "m.yaml:4: samples must be a whole number, not true",
        "m.yaml:4: samples must be a whole number or max, not '1': take the quotes away",
        "m.yaml:5: samples must be a whole number, not 1.5",
        "m.yaml:6: unknown key 'stps'; did you mean 'steps'?",
        "m.yaml:7: height must be a multiple of 8, not 7",
        "m.yaml:8: width must have at least one value",
        "m.yaml:9: steps must be a list, such as [a, b], not 5",
        "m.yaml:10: unknown key 'engin'; did you mean 'engine'?",
        "m.yaml:10: samples must be a whole number or max, not 'x'",
        "m.yaml:11: unknown key 'hst'; did you mean 'host'?",
        "m.yaml:11: device 'gpu' is unknown; did you mean 'cuda'?",
        "m.yaml:12: rel_ci must be less than 1, not 2",
        "m.yaml:12: unknown key 'max_repeat'; did you mean 'max_repeats'?",
        "m.yaml:13: timeout must be a time such as 90s, 30m or 1h30m, of 7 days at most, not 'soon'",
        "m.yaml:14: name must be text, not 1.0: put it in quotes",
        "m.yaml:15: autocast must be true or false, not 'maybe'",
        "m.yaml:16: samples must be a whole number, not [1]; fix: put lists of values under matrix:",
        "m.yaml:17: precision 'full' is unknown; it is one of single, tf32, half, bfloat16, fp8, int8, int8-weight",
        "m.yaml:18: model 'synthetic:tinny' is unknown; did you mean 'synthetic:tiny'?",
        "m.yaml:19: prompt must be text, not true (YAML reads yes, no, on and off so): put it in quotes",
        "m.yaml:20: guidance must be a number, not nan",
        "m.yaml:21: seed must be a whole number, not nothing",
    ]


BOMB = "a0: &a0 [x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 8)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "m.yaml: is empty"),
        ("# nothing\n", "m.yaml: is empty"),
        ("- a\n", "m.yaml:1: must hold keys and values"),
        ("text", "m.yaml:1: must hold keys and values"),
        ("a: [1\nb: 2", "m.yaml:2: is not YAML"),
        ("a: 1\n\tb: 2", "there is a tab: indent with spaces"),
        ("a: b: c", "m.yaml:1: is not YAML: mapping values are not allowed"),
        ("a: *nowhere", "m.yaml:1: is not YAML: found undefined alias"),
        ("a: 1\n---\nb: 2", "m.yaml:2: is not YAML: expected a single document"),
        ("a: 1\na: 2", "m.yaml:2: 'a' appears twice; it is first in line 1"),
        ("\n1: 2", "m.yaml:2: a key must be text, and '1' is read as 1: put it in quotes"),
        ("on: 2", "m.yaml:1: a key must be text, and 'on' is read as True: put it in quotes"),
        ("[a]: 2", "m.yaml:1: a key must be text, not a list"),
        ("a:\n  - &a [*a]", "m.yaml:2: an alias refers to what it stands in: a cycle"),
        ("&a a: {b: {<<: *a}}", "m.yaml:1: only keys and values can be merged by '<<'"),
        ("&a {b: {<<: *a}}", "m.yaml:1: an alias refers to what it stands in: a cycle"),
        (BOMB, "m.yaml: holds more than 20000 values, aliases expanded"),
        ("[" * 100_000, "m.yaml:1: is nested more than 40 deep"),
        ("? " * 100_000, "m.yaml:1: is nested more than 40 deep"),
        ("a: !!python/object/apply:os.system [ls]", "m.yaml:1: has the tag tag:yaml.org,2002:python/object/apply"),
        ("a: !!python/name:os.system x", "m.yaml:1: 'x' has the tag"),
        ("a: !!int x", "m.yaml:1: 'x' is not a YAML int"),
        ("a: " + "9" * 5000, "is too long for a number"),
        ("a: " + "1:" * 5000 + "1", "is too long for a number"),
        (b"a: 1\x00", "m.yaml:1: holds the control character '\\x00', so it is not a text file"),
        (b"\na: \xff", "m.yaml:2: is not UTF-8 text (byte 0xff)"),
        ("a: é".encode("utf-16"), "m.yaml:1: is not UTF-8 text"),
        ('a: "\\0"', "m.yaml:1: '\\x00' holds a control character"),
        (b"a: " + b"x" * (1 << 20), "m.yaml: is larger than 1 MiB"),
    ],
)
@pytest.mark.parametrize("load", [config.load_hosts, config.load_matrix])
def test_what_is_no_such_file_is_one_clear_message(
    write: Write, load: Callable[..., Any], content: str | bytes, message: str
) -> None:
    found = problems_of(load, write(content))
    assert len(found) == 1
    assert message in found[0]


def test_a_list_at_the_top_of_a_matrix_is_told_to_go_under_matrix(write: Write) -> None:
    found = problems_of(config.load_matrix, write("engine: [eager]\nsamples: [1]\n"))
    assert len(found) == 2
    assert all(problem.endswith("; fix: put lists of values under matrix:") for problem in found)


@pytest.mark.parametrize("key", ["include", "exclude"])
def test_a_list_in_an_entry_is_told_to_become_entries(write: Write, key: str) -> None:
    entry = "{engine: eager, samples: [1, 2], precision: [half]}"
    found = problems_of(config.load_matrix, write(f"matrix: {{engine: [eager]}}\n{key}: [{entry}]\n"))
    assert len(found) == 2
    assert all(problem.endswith(f"; fix: write an entry of {key} for each value") for problem in found)


@pytest.mark.parametrize("load", [config.load_hosts, config.load_matrix])
def test_a_path_that_cannot_be_read_is_one_clear_message(tmp_path: Path, load: Callable[..., Any]) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in {
        ".": "is a folder",
        "none.yaml": "there is no such file; `orchestrator init` writes",
        "fifo": "is not a regular file",
        "loop": "symbolic links",
        "x" * 300: "too long",
        "a\0b": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=message) as caught:
            load(tmp_path / name)
        assert len(caught.value.problems) == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_says_so(write: Write) -> None:
    path = write("hosts: {}")
    path.chmod(0)
    assert "Permission denied" in problems_of(config.load_hosts, path)[0]


@pytest.mark.parametrize(
    "content", ["hosts: {}", "hosts:", "defaults: {}", "hosts: []", "hosts: x", "hosts: {a: b}\ndefaults: 3"]
)
def test_an_inventory_without_hosts_is_an_error(write: Write, content: str) -> None:
    assert problems_of(config.load_hosts, write(content))


def test_a_wrong_file_of_many_faults_names_the_first_hundred(write: Write) -> None:
    found = problems_of(config.load_matrix, write("matrix: {engine: [" + "x, " * 15_000 + "x]}"))
    assert len(found) == 1
    found = problems_of(config.load_matrix, write("matrix:\n  engine:\n" + "  - x\n" * 15_000))
    assert len(found) == 101


MATRIX = "matrix: {engine: [eager, onnxruntime], samples: [1]}\nsteps: 5\n"


def test_set_replaces_an_axis_or_a_value_and_makes_an_axis_of_several(write: Write) -> None:
    path = write(MATRIX)
    found = config.load_matrix(
        path, ["engine=eager", "samples=1,2", "steps=3,4", "precision=half", "timeout=1h", "name=n"]
    )
    assert [(p.engine, p.samples, p.steps) for p in found.points] == [
        ("eager", 1, 3), ("eager", 1, 4), ("eager", 2, 3), ("eager", 2, 4)
    ]  # fmt: skip
    assert {p.precision for p in found.points} == {Precision.HALF}
    assert (found.timeout_s, found.name) == (3600.0, "n")


def test_set_takes_text_as_it_is_and_yaml_in_brackets(write: Write) -> None:
    found = config.load_matrix(
        write(MATRIX), ["prompt=a cat, 1", "until={rel_ci: 0.1}", "height=[64, null]", "model=123"]
    )
    assert {(p.prompt, p.model, p.height) for p in found.points} == {("a cat, 1", "123", 64), ("a cat, 1", "123", None)}
    assert found.until is not None
    assert found.until.rel_ci == 0.1


def test_what_is_wrong_with_set_is_told_with_what_is_wrong_with_the_file(write: Write) -> None:
    found = problems_of(
        config.load_matrix,
        write("matrix: {engine: [eager]}\nseed: -1\n"),
        ["engine=eagr", "stps=1", "samples", "matrix=1", "steps=", "until={", "name=a/b"],
    )
    assert "m.yaml:2: seed must be at least 0, not -1" in found
    assert "--set engine=eagr: engine 'eagr' is unknown; did you mean 'eager'?" in found
    assert "--set stps=1: unknown key 'stps'; did you mean 'steps'?" in found
    assert "--set samples: write KEY=VALUE or KEY=VALUE,VALUE" in found
    assert "--set steps=: steps must be a whole number, not nothing" in found
    assert len(found) == 8


def test_init_writes_both_files_and_they_load(tmp_path: Path) -> None:
    written = config.init(tmp_path / "new")
    assert [path.name for path in written] == ["hosts.yaml", "matrix.yaml"]
    assert list(config.select(config.load_hosts(written[0]), None)) == [ProcessHost(name="local")]
    assert config.load_matrix(written[1]) == config.load_matrix(None)


def test_the_hosts_that_init_shows_as_comments_load(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(re.sub(r"(?m)^  # ", "  ", config.template("hosts.yaml")))
    assert {type(host).__name__ for host in config.load_hosts(file).values()} == {
        "ProcessHost", "DockerHost", "KubernetesHost",
    }  # fmt: skip


def test_init_writes_what_is_missing_and_overwrites_nothing(tmp_path: Path) -> None:
    (tmp_path / "matrix.yaml").write_text("mine")
    assert config.init(tmp_path) == [tmp_path / "hosts.yaml"]
    with pytest.raises(InputError, match="are there already"):
        config.init(tmp_path)
    assert (tmp_path / "matrix.yaml").read_text() == "mine"
    with pytest.raises(InputError, match="cannot be written"):
        config.init(tmp_path / "matrix.yaml" / "below")


def test_the_default_matrix_compares_two_engines_at_three_batch_sizes() -> None:
    found = config.load_matrix(None)
    assert {(p.model, p.engine, p.samples) for p in found.points} == {
        ("synthetic:tiny", engine, samples) for engine in ("eager", "onnxruntime") for samples in (1, 2, 4)
    }


@pytest.mark.parametrize("name", config.FILES)
def test_the_files_at_the_top_are_the_templates(name: str) -> None:
    assert (ROOT / name).read_text() == config.template(name)


@pytest.mark.parametrize("path", HOST_FILES, ids=lambda path: path.name)
def test_every_inventory_that_ships_loads(path: Path) -> None:
    assert config.select(config.load_hosts(path), None)


@pytest.mark.parametrize("path", MATRIX_FILES, ids=lambda path: path.name)
def test_every_matrix_that_ships_loads_and_plans(path: Path) -> None:
    hosts = config.select(config.load_hosts(ROOT / "examples" / "hosts.yaml"), None)
    assert make_plan(config.load_matrix(path), hosts).jobs


@pytest.mark.parametrize(
    ("name", "schema"), [("hosts", jsonschemas.hosts_schema), ("matrix", jsonschemas.matrix_schema)]
)
def test_the_json_schemas_are_up_to_date(name: str, schema: Callable[[], dict[str, Any]]) -> None:
    shipped = config.template(f"{name}.schema.json")
    assert shipped == jsonschemas.text(schema()), "run python -m orchestrator.config.jsonschemas"
    assert "title" in json.loads(shipped)


@pytest.mark.parametrize("name", ["hosts", "matrix"])
def test_the_docs_tell_of_every_key(name: str) -> None:
    page = (ROOT / "docs" / f"{name}.md").read_text()
    keys = (
        set(MatrixFile.model_fields)
        if name == "matrix"
        else {k for kind in config.KINDS.values() for k in problems.keys(kind)}
    )
    assert not [key for key in keys if f"`{key}`" not in page]


# --- only InputError ever comes out

SMALL = settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
KEYS = sorted({*MatrixFile.model_fields, *DockerHost.model_fields, "hosts", "defaults", "engine", "a", "<<"})
WORDS = st.sampled_from(["eager", "half", "all", "docker", "process", "1h", "ssh://a", "tcp://b:1", "synthetic:x", ""])
SCALARS = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), WORDS, st.dates())
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | SCALARS, inner, max_size=4),
    max_leaves=20,
)
FIELDS = st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6)
FILES = st.one_of(
    VALUES,
    FIELDS,
    st.fixed_dictionaries({"hosts": st.dictionaries(WORDS | st.text(max_size=5), FIELDS, max_size=3)}),
    st.fixed_dictionaries({"matrix": FIELDS, "include": st.lists(FIELDS, max_size=3), "exclude": VALUES}),
)
SEEDS = [path.read_bytes() for path in [*HOST_FILES, *MATRIX_FILES]]


def only_input_errors(path: Path, content: bytes, overrides: list[str] | None = None) -> None:
    path.write_bytes(content)
    for load in (config.load_hosts, lambda path: config.load_matrix(path, overrides or [])):
        try:
            load(path)
        except InputError as error:
            problems = error.problems
        else:
            problems = ("none",)
        assert problems
        assert not [problem for problem in problems if not problem or "\n" in problem]


@SMALL
@given(content=st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="surrogatepass")))
def test_arbitrary_bytes_raise_nothing_else(tmp_path: Path, content: bytes) -> None:
    only_input_errors(tmp_path / "f.yaml", content)


@SMALL
@given(value=FILES, style=st.booleans())
def test_arbitrary_structures_raise_nothing_else(tmp_path: Path, value: object, style: bool) -> None:
    content = yaml.safe_dump(value, default_flow_style=style, allow_unicode=True).encode(errors="surrogatepass")
    only_input_errors(tmp_path / "f.yaml", content)


@SMALL
@given(data=st.data())
def test_mutated_valid_files_raise_nothing_else(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 4))):
        at, length = data.draw(st.integers(0, len(content))), data.draw(st.integers(0, 12))
        new = data.draw(
            st.sampled_from([b"", b"[", b"}", b"&a ", b"*a", b": ", b"\n- ", b"!!x ", b"'", b"0", b"\xc3", b"|\n"])
        )
        content[at : at + length] = new
    only_input_errors(tmp_path / "f.yaml", bytes(content))


@SMALL
@given(overrides=st.lists(st.builds("{}={}".format, st.sampled_from(KEYS), st.text(max_size=12) | WORDS), max_size=3))
def test_arbitrary_overrides_raise_nothing_else(tmp_path: Path, overrides: list[str]) -> None:
    only_input_errors(tmp_path / "f.yaml", MATRIX.encode(), overrides)
