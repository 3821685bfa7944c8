"""The images' names, contexts and ways, against engines in memory; tests/live/test_images_live.py has the real ones."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from fake_images import CPU, FakeEngine, Registry, digest_of, ensured, packed, saved
from paths import ROOT

from orchestrator import images
from orchestrator.errors import HostUnreachable, ImageError, InputError
from orchestrator.images import pins, recipe, vouched
from orchestrator.images.image import events
from orchestrator.images.record import Record
from orchestrator.images.vouched import Vouched
from runner.schema import ENGINES


@pytest.fixture(autouse=True)
def _record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who has built nothing so far."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_a_host_that_needs_no_image_gives_the_one_that_it_has() -> None:
    has, lacks = FakeEngine("has"), FakeEngine("lacks")
    images.build(has, "cpu")
    has.done.clear()
    connections: dict[str, Any] = {"has": has, "lacks": lacks}
    outcomes = images.ensure(connections, {"has": (), "lacks": ("cpu",)})
    assert list(outcomes) == [("lacks", "cpu")]
    assert not [done for engine in (has, lacks) for done in engine.done if done.startswith("build")]
    assert lacks.images[CPU]["Id"] == has.images[CPU]["Id"]


def test_every_engine_of_the_runner_has_its_image() -> None:
    named = {flavour for facts in ENGINES.values() for flavour in facts.images.values()}
    assert named <= set(images.FLAVOURS)


def test_a_name_is_a_repository_and_twelve_digits() -> None:
    assert recipe.REPOSITORY + "/cpu:" in CPU
    assert len(CPU.partition(":")[2]) == 12


@pytest.mark.parametrize("path", ["Dockerfile", "images/torch-cpu.txt", "images/cpu.txt", "runner/schema.py"])
def test_a_name_changes_with_each_file_that_goes_in(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = dict(recipe.recipe("cpu"))
    assert path in files
    changed = {**files, path: files[path] + b"\n"}
    monkeypatch.setattr(recipe, "recipe", lambda _: changed)
    assert images.reference("cpu") != CPU


def test_a_name_changes_with_the_base_and_says_the_default_one() -> None:
    assert images.reference("cpu", base="debian:12") != CPU
    assert images.reference("cpu", base=recipe.default_base("cpu")) == CPU


@pytest.mark.parametrize("flavour", images.FLAVOURS)
def test_a_base_is_named_by_its_digest_and_its_tag(flavour: str) -> None:
    assert re.fullmatch(r"[\w./-]+:[\w.-]+@sha256:[0-9a-f]{64}", recipe.default_base(flavour))


@dataclass
class Asked(FakeEngine):
    """An engine that keeps what a build was asked for."""

    asked: list[Mapping[str, Any]] = field(default_factory=list)

    def build(self, *, tag: str, fileobj: Any, **how: Any) -> Iterator[dict[str, Any]]:
        self.asked.append(how)
        return super().build(tag=tag, fileobj=fileobj, **how)


def tell(lines: list[str], said: Any) -> None:
    lines.append(said.line)


def test_an_engines_own_base_under_the_tag_is_taken_only_where_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = recipe.default_base("cpu")
    tag, _, base_digest = pinned.partition("@")
    says = "org.opencontainers.image.base."
    for value, base, told in ((None, pinned, 0), ("0", pinned, 0), ("1", tag, 1)):
        with monkeypatch.context() as patched:
            if value is not None:
                patched.setenv(recipe.LOCAL_BASES, value)
            engine, lines = Asked("a"), list[str]()
            engine._take(tag, b"whatever is there")
            images.build(engine, "cpu", progress=partial(tell, lines))
        assert engine.asked[0]["buildargs"]["BASE"] == base
        assert engine.asked[0]["labels"][f"{says}name"] == tag
        assert engine.asked[0]["labels"].get(f"{says}digest") == (base_digest if base == pinned else None)
        assert len([line for line in lines if "its digest unchecked" in line]) == told


def test_a_base_that_is_to_be_there_and_is_not_is_never_pulled_by_its_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(recipe.LOCAL_BASES, "1")
    engine = Asked("a")
    with pytest.raises(ImageError, match=r"a has no image python:3\S+, and ORCHESTRATOR_LOCAL_BASES allows no other: "):
        images.build(engine, "cpu")
    assert engine.asked == []


def test_a_base_out_of_reach_is_copied_by_its_tag_and_then_allowed() -> None:
    said = failed({"stream": "Step 1/9 : FROM ${BASE} AS build\n"}, error="dial tcp: lookup: no such host")
    assert "docker save python:3.11-slim-bookworm | docker -H ADDRESS load) and set ORCHESTRATOR_LOCAL_BASES=1" in said


@pytest.fixture
def bases() -> ModuleType:
    loader = SourceFileLoader("bases", str(ROOT / ".ci/bases"))
    module = ModuleType("bases")
    module.__file__ = loader.path
    loader.exec_module(module)
    return module


def test_a_bases_digest_is_replaced_and_nothing_else(bases: ModuleType) -> None:
    ours, new = recipe.recipe("cpu")["Dockerfile"].decode(), f"sha256:{'a' * 64}"
    updated = bases.updated(ours, {"python:3.11-slim-bookworm": new}.__getitem__)
    assert updated == ours.replace(recipe.default_base("cpu").partition("@")[2], new)
    assert bases.updated("ARG BASE=scratch\n", {}.__getitem__) == "ARG BASE=scratch\n"
    with pytest.raises(ValueError, match="which is no digest"):
        bases.updated(ours, lambda _: "latest")


def test_a_host_with_a_base_of_its_own_gets_that_with_the_runner_added_and_nothing_installed() -> None:
    there, other = FakeEngine("there"), FakeEngine("other")
    outcomes = ensured(there, other, flavours=[images.CUSTOM_BASE], bases={"there": "mine:1", "other": "theirs:2"})
    assert outcomes["there", images.CUSTOM_BASE].reference == images.reference(images.CUSTOM_BASE, "mine:1")
    assert outcomes["other", images.CUSTOM_BASE].reference == images.reference(images.CUSTOM_BASE, "theirs:2")
    assert {path.partition("/")[0] for path in recipe.recipe(images.CUSTOM_BASE)} == {"Dockerfile", "runner"}
    assert b"pip" not in recipe.recipe(images.CUSTOM_BASE)["Dockerfile"]


def test_a_flavour_that_is_not_there_is_named_with_those_that_are() -> None:
    with pytest.raises(InputError, match=r"'gpu'.*cpu, cuda, deepspeed"):
        images.reference("gpu")


def wheels_in(folder: Path) -> Path:
    for name in ("b-1-py3-none-any.whl", "a-1-py3-none-any.whl", "notes.txt"):
        (folder / name).write_text(name)
    return folder


def test_a_context_is_the_same_bytes_at_another_time(tmp_path: Path) -> None:
    wheels = wheels_in(tmp_path)
    with images.context("cpu", wheels) as once:
        first = once.read()
    os.utime(wheels / "a-1-py3-none-any.whl", (0, 0))
    (wheels / "b-1-py3-none-any.whl").chmod(0o600)
    with images.context("cpu", wheels) as again:
        assert again.read() == first


def test_a_context_holds_the_runner_and_the_wheels_and_no_bytecode(tmp_path: Path) -> None:
    with images.context("cpu", wheels_in(tmp_path)) as file, tarfile.open(fileobj=file) as tar:
        names = tar.getnames()
    assert {"Dockerfile", "runner/__main__.py", "wheels/a-1-py3-none-any.whl"} <= set(names)
    assert not [name for name in names if "__pycache__" in name or name.endswith("notes.txt")]


def test_a_folder_without_wheels_is_an_error_and_not_a_package_index(tmp_path: Path) -> None:
    with (
        pytest.raises(InputError, match=r"no wheels there; with the base's Python, run: .* && pip download"),
        images.context("cpu", tmp_path),
    ):
        pass


def test_an_error_inside_a_stream_is_raised() -> None:
    with pytest.raises(ImageError, match="it did not load: no space left"):
        list(events([{"status": "Loading"}, {"error": "no space left on device\n"}], "it did not load"))


def test_a_failed_build_names_the_step_and_what_it_said_last() -> None:
    said = ({"stream": "Step 4/9 : RUN pip install\n"}, {"stream": "No matching distribution\n"}, {"error": "code: 1"})
    with pytest.raises(ImageError, match=r"(?s)did not build on a: code: 1 \(step 4/9, RUN pip install\).*No matching"):
        images.build(FakeEngine("a", says=said), "cpu")


def failed(*said: dict[str, Any], error: str = "code: 1", **how: Any) -> str:
    """How a build that says this ends."""
    with pytest.raises(ImageError) as caught:
        images.build(FakeEngine("a", says=(*said, {"error": error})), "cpu", **how)
    return str(caught.value)


@pytest.mark.parametrize("escape", ["\x1b", "?"])
def test_colours_of_a_build_are_not_in_its_error(escape: str) -> None:
    said = failed({"stream": "Step 4/9 : RUN pip\n"}, {"stream": f"{escape}[91mERROR: no {escape}[0m\n"})
    assert "\n  ERROR: no" in said
    assert "[91m" not in said


PIP = {"stream": "Step 4/9 : RUN pip\n"}
NO_TORCH = {"stream": "ERROR: No matching distribution found for torch==2.13.0\n"}


def test_a_package_missing_in_the_wheels_is_named_with_its_remedy(tmp_path: Path) -> None:
    said = failed(PIP, NO_TORCH, wheels=wheels_in(tmp_path))
    assert f"fix: torch==2.13.0 is missing in {tmp_path}; with the base's Python, run: " in said
    assert said.endswith(
        f" -m orchestrator.images.pins torch-cpu cpu > {tmp_path}.txt && pip download --no-deps --require-hashes "
        f"-r {tmp_path}.txt -d {tmp_path} --extra-index-url https://download.pytorch.org/whl/cpu"
    )


def test_a_package_that_is_not_the_one_pinned_is_said_to_be_so(tmp_path: Path) -> None:
    wrong = {"stream": "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n"}
    assert "fix: the package index of a gives a file that is not the one pinned" in failed(PIP, wrong)
    assert f"fix: {tmp_path} holds a file that is not the one pinned" in failed(PIP, wrong, wheels=wheels_in(tmp_path))


def test_an_image_changes_with_its_own_pins_and_with_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    before = pins.file().read_text()
    for level, changes in (("check tools", False), ("bench test check cpu", True)):
        with monkeypatch.context() as patched:
            patched.setattr(recipe, "_pins", lambda level=level: before + f"\n# for: {level}\nadded==1\n")
            recipe.recipe.cache_clear()
            assert (images.reference("cpu") != CPU) is changes
    recipe.recipe.cache_clear()


def test_a_command_to_run_names_no_package_that_a_host_has_named(tmp_path: Path) -> None:
    line = {"stream": "ERROR: No matching distribution found for not-ours\n"}
    said = failed(PIP, line, wheels=wheels_in(tmp_path))
    assert "not-ours" not in said.partition(" run: ")[2]


def test_an_index_out_of_reach_is_told_from_a_package_that_it_lacks() -> None:
    assert "fix: a finds no torch==2.13.0 at its index" in failed(PIP, NO_TORCH)
    broken = {"stream": "WARNING: Retrying after connection broken by 'NewConnectionError('\n"}
    assert "fix: a cannot reach its package index" in failed(PIP, broken, NO_TORCH)


# What Docker 20.10 to 28 say.
@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ('Get "https://registry-1.docker.io/v2/": dial tcp: lookup registry-1.docker.io: no such host', "cannot reach"),
        ('Get "http://localhost:1/v2/": dial tcp 127.0.0.1:1: connect: connection refused', "cannot reach docker.io"),
        ("net/http: request canceled (Client.Timeout exceeded while awaiting headers)", "copy it there"),
        (
            'Get "https://r/v2/": tls: failed to verify certificate: x509: certificate signed by unknown',
            "does not trust",
        ),
        ("toomanyrequests: You have reached your pull rate limit", "limits the pulls of a"),
        (
            "pull access denied for x, repository does not exist or may require 'docker login'",
            "run docker login docker.io",
        ),
        ("manifest for python:3 not found: manifest unknown: manifest unknown", "has no image"),
        (
            "no matching manifest for linux/arm64/v8 in the manifest list",
            "no variant for the architecture of a",
        ),
        ("invalid reference format", "is not the name of an image"),
        ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "the disk of a's engine is full"),
    ],
)
def test_a_fault_at_the_base_has_the_remedy_of_its_cause(error: str, remedy: str) -> None:
    said = failed({"stream": "Step 2/9 : FROM ${BASE}\n"}, error=error)
    assert remedy in said.rpartition("\n  fix: ")[2]


def test_a_fault_at_the_base_of_unknown_cause_gets_no_guess() -> None:
    assert "fix:" not in failed({"stream": "Step 2/9 : FROM ${BASE}\n"}, error="layer does not exist")


def test_a_full_disk_is_said_to_be_full_at_every_step() -> None:
    full = {"stream": "ERROR: Could not install: [Errno 28] No space left on device\n"}
    assert "fix: the disk of a's engine is full" in failed(PIP, full)


def test_an_empty_wheels_folder_names_a_command_that_lists_its_packages(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught, images.context("cpu", tmp_path):
        pass
    lists = str(caught.value).partition(", run: ")[2].partition(" && ")[0]
    subprocess.run(["sh", "-c", lists], check=True)
    listed = Path(f"{tmp_path}.txt").read_bytes()
    assert listed == recipe.recipe("cpu")["images/torch-cpu.txt"] + recipe.recipe("cpu")["images/cpu.txt"]


def test_an_image_that_is_there_is_not_built() -> None:
    engine = FakeEngine("a")
    first, second = images.build(engine, "cpu"), images.build(engine, "cpu")
    assert first == second
    assert engine.done == [f"build {CPU}"]


def test_building_waits_long_and_leaves_the_client_as_it_was() -> None:
    engine, seen = FakeEngine("a"), []
    images.build(engine, "cpu", progress=lambda _: seen.append(engine.timeout))
    assert min(seen) >= 1800
    assert engine.timeout == 60


def test_what_arrives_must_be_what_was_sent() -> None:
    source = FakeEngine("a")
    images.build(source, "cpu")
    target = FakeEngine("b", damage=lambda _: b"other")
    with pytest.raises(ImageError, match=r"did not load on b: it was sent sha256:.* and says that sha256:.* arrived"):
        images.ship(source, target, CPU)
    assert target.images == {}


def test_an_image_that_is_there_is_not_shipped_again() -> None:
    source, target = FakeEngine("a"), FakeEngine("b")
    images.build(source, "cpu")
    images.ship(source, target, CPU)
    images.ship(source, target, CPU)
    assert len([done for done in source.done if done.startswith("save")]) == 1


def test_an_image_is_not_shipped_to_another_architecture() -> None:
    source = FakeEngine("a")
    images.build(source, "cpu")
    with pytest.raises(ImageError, match="on a is for amd64, and b is arm64: build it there"):
        images.ship(source, FakeEngine("b", arch="arm64"), CPU)


def test_an_image_is_built_once_and_shipped_to_the_others() -> None:
    engines = [FakeEngine(name) for name in "abc"]
    outcomes = ensured(*engines)
    assert sum(f"build {CPU}" in engine.done for engine in engines) == 1
    assert len({image.id for image in outcomes.values()}) == 1


def test_an_image_is_read_once_for_all_hosts_that_lack_it() -> None:
    engines = [FakeEngine(name) for name in "abcd"]
    outcomes = ensured(*engines)
    assert all(isinstance(image, images.ImageInfo) for image in outcomes.values())
    assert sum(done.startswith("save") for engine in engines for done in engine.done) == 1


def test_each_architecture_builds_its_own() -> None:
    engines = [FakeEngine("a"), FakeEngine("b", arch="arm64"), FakeEngine("c", arch="arm64")]
    outcomes = ensured(*engines)
    assert [engine.done.count(f"build {CPU}") for engine in engines] == [1, 1, 0]
    assert outcomes["a", "cpu"].id != outcomes["c", "cpu"].id


def test_a_dead_host_holds_up_no_other() -> None:
    outcomes = ensured(FakeEngine("a", dead=True), FakeEngine("b"), flavours=("cpu", "cuda"))
    assert all(isinstance(outcomes["a", flavour], HostUnreachable) for flavour in ("cpu", "cuda"))
    assert all(isinstance(outcomes["b", flavour], images.ImageInfo) for flavour in ("cpu", "cuda"))


def test_an_image_that_does_not_build_is_tried_once_and_is_every_hosts_fault() -> None:
    engines = [FakeEngine(name, says=({"error": "no"},)) for name in "ab"]
    outcomes = ensured(*engines)
    assert [len(engine.done) for engine in engines] == [1, 0]
    assert outcomes["a", "cpu"] is outcomes["b", "cpu"]


INTERRUPTED = """
import signal, threading
from fake_images import FakeEngine, ensured
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in a shell's background ignores it
print("building", flush=True)
ensured(FakeEngine("a", held=threading.Event()))
"""


def test_an_interrupt_does_not_wait_for_a_build() -> None:
    command = [sys.executable, "-c", INTERRUPTED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests/support")}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"building\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=600)
    assert b"KeyboardInterrupt" in said


def test_a_damaged_shipment_is_one_hosts_fault() -> None:
    outcomes = ensured(FakeEngine("a"), FakeEngine("b", damage=lambda _: b""), FakeEngine("c"))
    assert isinstance(outcomes["b", "cpu"], ImageError)
    assert isinstance(outcomes["c", "cpu"], images.ImageInfo)


def test_with_a_registry_the_others_pull_what_one_pushed() -> None:
    registry = Registry()
    engines = [FakeEngine(name, registry=registry) for name in "abc"]
    outcomes = ensured(*engines, registry="lab:5000")
    remote = f"lab:5000/{CPU}-amd64"
    assert [f"push {remote}" in engine.done for engine in engines] == [True, False, False]
    assert all(any(done.startswith("pull lab:5000/") for done in engine.done) for engine in engines[1:])
    assert {image.reference for image in outcomes.values()} == {CPU}


def test_what_a_registry_has_is_built_nowhere() -> None:
    registry = Registry()
    ensured(FakeEngine("a", registry=registry), registry="lab:5000")
    later = FakeEngine("b", registry=registry)
    ensured(later, registry="lab:5000")
    assert not [done for done in later.done if done.startswith("build")]


def test_a_push_that_is_denied_is_an_error() -> None:
    outcomes = ensured(FakeEngine("a"), FakeEngine("b"), registry="locked")
    assert all("denied" in str(outcomes[host, "cpu"]) for host in "ab")


def another(layer: bytes) -> bytes:
    return json.dumps({"rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]}}).encode()


LIES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "another image under our tag": lambda config, layer: saved(another(b"evil"), b"evil", (CPU,)),
    "our configuration with another layer": lambda config, layer: saved(config, b"evil", (CPU,)),
    "a manifest that says so": lambda config, layer: packed(
        {digest_of(config): b"{}", "manifest.json": b'[{"Config": "x", "RepoTags": ["postgres:16"], "Layers": []}]'}
    ),
    "half an archive": lambda config, layer: saved(config, layer)[:700],
    "no archive": lambda config, layer: b"x" * 5000,
    "nothing": lambda config, layer: b"",
    "a device": lambda config, layer: packed({}, _special(tarfile.CHRTYPE)),
    "far more than there was": lambda config, layer: saved(config, layer, big=bytes(70 << 20)),
    "small files without end": lambda config, layer: packed({f"{n}": b"{}" for n in range(2100)}),
}


def _special(kind: bytes) -> tarfile.TarInfo:
    entry = tarfile.TarInfo("x")
    entry.type = kind
    return entry


@pytest.mark.parametrize("lie", LIES)
def test_what_is_not_the_image_that_was_built_changes_no_other_host(lie: str) -> None:
    liar, honest = FakeEngine("liar", sends=LIES[lie]), FakeEngine("honest")
    images.build(liar, "cpu")
    with pytest.raises(ImageError, match=r"liar did not send .* as it was built"):
        images.ship(liar, honest, CPU)
    assert honest.images == {}


def test_how_large_a_builder_calls_its_image_bounds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vouched, "IMAGE_LIMIT_BYTES", 2**20)
    sent = 0

    class Liar(FakeEngine):
        def _take(self, name: str, layer: bytes) -> None:
            super()._take(name, layer)
            self.images[name]["Size"] = 10**30

        def get_image(self, image_id: str) -> Iterator[bytes]:
            nonlocal sent
            endless = tarfile.TarInfo("layer.tar")
            endless.size = 2**60
            yield endless.tobuf(tarfile.GNU_FORMAT)
            while True:
                sent += 2**16
                yield bytes(2**16)

    liar, honest = Liar("liar"), FakeEngine("honest")
    images.build(liar, "cpu")
    with pytest.raises(ImageError, match="or than any is"):
        images.ship(liar, honest, CPU)
    assert honest.images == {}
    assert sent <= 2**20 + 2**16


@pytest.mark.parametrize(
    "said", [{"Id": "x"}, {"Id": "x" * 10**6}, {"Id": ["sha256"]}, {"Size": "5"}, {"Size": -1}, {"Size": [1]}]
)
def test_an_image_that_a_builder_names_by_no_digest_or_size_is_not_recorded(said: dict[str, Any]) -> None:
    class Liar(FakeEngine):
        def _take(self, name: str, layer: bytes) -> None:
            super()._take(name, layer)
            self.images[name] |= said

    error = ensured(Liar("liar"))["liar", "cpu"]
    assert isinstance(error, ImageError)
    assert len(str(error)) < 500
    assert not Record.of_user().file.exists()


@pytest.mark.parametrize("layers", [["x"], ["x" * 10**6], [5], [f"sha256:{'0' * 64}"] * 128])
def test_layers_that_are_no_digests_are_not_recorded(layers: list[Any]) -> None:
    class Liar(FakeEngine):
        def push(self, repository: str, tag: str, **how: Any) -> Iterator[dict[str, Any]]:
            self.images[CPU]["RootFS"] = {"Layers": layers}
            yield from super().push(repository, tag, **how)

        def inspect_image(self, name: str) -> dict[str, Any]:
            image = super().inspect_image(name)
            return {**image, "RootFS": {"Layers": layers}}

    error = images.publish({"a": Liar("a")}, ["cpu"], "lab:5000")["cpu"]
    assert "no list of digests" in str(error)
    assert Record.of_user().digest(f"lab:5000/{CPU}-amd64") is None


def test_no_tag_but_ours_reaches_another_host_with_an_image() -> None:
    def sends(config: bytes, layer: bytes) -> bytes:
        return saved(config, layer, (CPU, "postgres:16"), repositories=b'{"python": {"3.11-slim-bookworm": "1"}}')

    liar, honest = FakeEngine("liar", sends=sends), FakeEngine("honest")
    images.build(liar, "cpu")
    images.ship(liar, honest, CPU)
    assert list(honest.images) == [CPU]


def test_no_member_of_a_hosts_archive_keeps_its_name_or_link() -> None:
    layer, config = b"layer", another(b"layer")
    link = _special(tarfile.SYMTYPE)
    link.linkname = "/etc/passwd"
    archive = packed({"../../etc/cron.d/x": layer, "repositories": b"{}", "index.json": b"{}", "c": config}, link)
    passed = b"".join(Vouched(CPU, digest_of(config), 10).passed([archive]))
    with tarfile.open(fileobj=io.BytesIO(passed)) as tar:
        assert tar.getnames() == ["0.blob", "1.blob", "2.blob", "3.blob", "manifest.json"]


def test_an_image_of_a_containerd_store_is_known_by_its_index() -> None:
    layer = b"packed"
    config = another(b"plain")
    manifest = json.dumps({"config": {"digest": digest_of(config)}, "layers": [{"digest": digest_of(layer)}]}).encode()
    index = json.dumps({"manifests": [{"digest": "sha256:of-no-file"}, {"digest": digest_of(manifest)}]}).encode()
    image = Vouched(CPU, digest_of(index), 10)
    assert b"".join(image.passed([packed({"a": layer, "b": config, "c": manifest, "d": index})]))
    assert (image.config_digest, image.layers) == (digest_of(config), (digest_of(b"plain"),))


def test_an_image_that_this_user_has_not_built_serves_its_own_host_alone() -> None:
    stranger, other = FakeEngine("stranger"), FakeEngine("other")
    stranger._take(CPU, b"evil")
    outcomes = ensured(stranger, other)
    assert outcomes["stranger", "cpu"].layers == (digest_of(b"evil"),)
    assert other.done == [f"build {CPU}"]
    assert stranger.done == []


def test_a_later_command_knows_what_an_earlier_one_built() -> None:
    first, second = FakeEngine("a"), FakeEngine("b")
    ensured(first)
    ensured(first, second)
    assert f"build {CPU}" not in second.done


def test_a_record_that_cannot_be_read_or_written_vouches_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("[")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    outcomes = ensured(FakeEngine("a"), FakeEngine("b"))
    assert len({image.id for image in outcomes.values()}) == 1


@pytest.mark.parametrize(
    "entry", [{}, {"engines": 5, "size_bytes": 1}, {"size_bytes": "1"}, {"size_bytes": None}, {"layers": 5}, [], None]
)
def test_an_entry_of_the_record_of_another_shape_vouches_for_nothing(entry: Any) -> None:
    stranger, other = FakeEngine("stranger"), FakeEngine("other")
    stranger._take(CPU, b"evil")
    file = Record.of_user().file
    file.parent.mkdir(parents=True)
    remote = f"lab:5000/{CPU}-amd64"
    file.write_text(json.dumps({CPU: {stranger.images[CPU]["Id"]: entry}, remote: {digest_of(b"evil"): entry}}))
    assert Record.of_user().digest(remote) is None
    ensured(stranger, other)
    assert other.done == [f"build {CPU}"]


def test_a_record_that_is_nested_without_end_vouches_for_nothing() -> None:
    file = Record.of_user().file
    file.parent.mkdir(parents=True)
    file.write_text("[" * 200_000)
    assert Record.of_user().digest("any") is None


def test_the_lock_of_the_record_is_closed_to_other_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    (tmp_path / "orchestrator").mkdir(mode=0o755)  # as an older version, or another program, made it
    (tmp_path / "orchestrator/images.lock").touch(0o644)
    ensured(FakeEngine("a"))
    assert (tmp_path / "orchestrator/images.lock").stat().st_mode & 0o777 == 0o600


def test_a_tag_in_a_registry_that_this_user_did_not_push_is_not_believed() -> None:
    registry = Registry()
    stranger, engine = FakeEngine("stranger"), FakeEngine("a", registry=registry)
    stranger._take(CPU, b"evil")
    registry.images[f"lab:5000/{CPU}-amd64"] = stranger.images[CPU]
    published = images.publish({"a": engine}, ["cpu"], "lab:5000")["cpu"]
    assert engine.done == [f"build {CPU}", f"push lab:5000/{CPU}-amd64"]
    assert str(published).endswith(engine.digest(engine.images[CPU]))


EVIL = digest_of(b"evil")


@pytest.mark.parametrize("said", ["sha256:evil", "", "x\x1b[2J", ["x"], {}, 5, EVIL + "\n", None])
def test_a_registrys_digest_that_is_none_is_an_error_and_no_traceback(said: Any) -> None:
    class Liar(FakeEngine):
        def inspect_distribution(self, name: str, *_: Any) -> dict[str, Any]:
            return {"Descriptor": {"digest": said}}

    error = images.publish({"a": Liar("a")}, ["cpu"], "lab:5000")["cpu"]
    assert isinstance(error, ImageError)
    assert "is no digest" in str(error)


@pytest.mark.parametrize("said", ["evil", ["x"], {"a": 1}, 5, "sha256:" + "0" * 63])
def test_a_pushed_digest_that_is_none_is_an_error_and_no_traceback(said: Any) -> None:
    class Liar(FakeEngine):
        def push(self, repository: str, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
            yield {"aux": {"Digest": said}}

    error = images.publish({"a": Liar("a")}, ["cpu"], "lab:5000")["cpu"]
    assert isinstance(error, ImageError)
    assert "expected sha256:" in str(error)


def test_an_engine_that_claims_a_known_image_pushes_nothing_for_others() -> None:
    registry = Registry()
    builder = FakeEngine("builder")
    images.build(builder, "cpu")
    liar, other = FakeEngine("liar", registry=registry), FakeEngine("other", registry=registry)
    liar.images[CPU] = {**builder.images[CPU], "layer": b"evil", "config": another(b"evil")}
    ensured(liar, other, registry="lab:5000")
    assert f"push lab:5000/{CPU}-amd64" in other.done
    assert not [done for done in liar.done if done.startswith("push")]


def test_an_engine_that_pulled_an_image_gives_it_to_no_other_host() -> None:
    class Liar(FakeEngine):
        def pull(self, repository: str, tag: str, **_: Any) -> Iterator[dict[str, Any]]:
            yield from super().pull(repository, tag)
            honest = self.images[f"{repository}@{tag}"]
            self._take("evil", b"evil")
            self.images[f"{repository}@{tag}"] = {**self.images["evil"], "RootFS": honest["RootFS"]}

    registry = Registry()
    builder = FakeEngine("builder", registry=registry)
    ensured(builder, registry="lab:5000")
    liar, other = Liar("liar", registry=registry), FakeEngine("other", registry=registry)
    ensured(liar, other, registry="lab:5000")
    assert other.images[CPU]["layer"] == builder.images[CPU]["layer"]
    assert not [done for done in liar.done if done.startswith("push")]
    later = FakeEngine("later")
    ensured(liar, later)
    assert later.done == [f"build {CPU}"]


SHAPES = {
    "a digest that is a list": {"config": {"digest": ["x"]}},
    "a digest that is an object": {"config": {"digest": {}}},
    "manifests that are text": {"manifests": "sha256:x"},
    "a manifest whose digest is a list": {"manifests": [{"digest": []}]},
    "no layers": {"rootfs": {"diff_ids": 5}},
    "a rootfs that is text": {"rootfs": "x"},
    "a list": [1],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_configuration_of_another_shape_is_an_error_and_no_traceback(shape: str) -> None:
    document = json.dumps(SHAPES[shape]).encode()
    with pytest.raises(ImageError):
        list(Vouched(CPU, digest_of(document), 10).passed([packed({"c": document})]))


def test_a_registry_that_has_another_digest_than_was_pushed_is_an_error() -> None:
    engine = FakeEngine("a", registry=Registry(says=EVIL))
    error = images.publish({"a": engine}, ["cpu"], "lab:5000")["cpu"]
    assert isinstance(error, ImageError)
    assert f"{EVIL}: who else writes there?" in str(error)
