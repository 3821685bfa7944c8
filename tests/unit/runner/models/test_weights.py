"""The identity of a model's weights, whatever the model is called."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import pytest
from builders import a_job

from runner.models import weights

PARTS = ("unet", "vae")


def model(folder: Path, unet: bytes = b"unet", **more: bytes) -> Path:
    """A folder as diffusers saves one; more: files of the UNet."""
    folder.mkdir()
    (folder / "model_index.json").write_text(json.dumps({part: ["diffusers", "X"] for part in PARTS}))
    for part in PARTS:
        (folder / part).mkdir()
        (folder / part / "config.json").write_text("{}")
        (folder / part / "model.safetensors").write_bytes(unet if part == "unet" else b"vae")
    for name, content in more.items():
        (folder / "unet" / name.replace("_", ".")).write_bytes(content)
    return folder


def test_a_copy_of_a_model_has_the_same_identity(tmp_path: Path) -> None:
    first = model(tmp_path / "a")
    shutil.copytree(first, tmp_path / "elsewhere")
    assert weights.of_folder(first) == weights.of_folder(tmp_path / "elsewhere")
    assert (weights.of_folder(first) or "").startswith("sha256:")


def test_other_weights_under_the_same_path_have_another_identity(tmp_path: Path) -> None:
    kept, folder = tmp_path / "kept.json", model(tmp_path / "a")
    before = weights.of_folder(folder, kept)
    (folder / "unet/model.safetensors").write_bytes(b"UNET")  # as long as before
    assert weights.of_folder(folder, kept) != before
    assert len(json.loads(kept.read_text())) == 5  # one hash for each file: the older one has gone


def test_other_weights_of_one_variant_are_another_identity(tmp_path: Path) -> None:
    one, other = (model(tmp_path / name, model_fp16_safetensors=name.encode()) for name in "ab")
    assert weights.of_folder(one) != weights.of_folder(other)


def test_files_that_no_pipeline_loads_do_not_change_the_identity(tmp_path: Path) -> None:
    plain, more = model(tmp_path / "a"), model(tmp_path / "b", model_bin=b"older", model_onnx=b"x", notes_md=b"x")
    (more / "README.md").write_text("about")
    assert weights.of_folder(plain) == weights.of_folder(more)


def test_a_snapshots_blobs_are_not_read_and_count_as_their_content(tmp_path: Path) -> None:
    plain = model(tmp_path / "a")
    linked = Path(shutil.copytree(plain, tmp_path / "snapshot"))
    (tmp_path / "blobs").mkdir()
    file = linked / "unet/model.safetensors"
    blob = tmp_path / "blobs" / hashlib.sha256(b"unet").hexdigest()
    blob.write_bytes(b"")  # its name tells
    file.unlink()
    file.symlink_to(blob)
    assert weights.of_folder(linked) == weights.of_folder(plain)


def test_a_cached_hash_saves_reading_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept, folder = tmp_path / "cache/kept.json", model(tmp_path / "a")
    first = weights.of_folder(folder, kept)
    monkeypatch.setattr(weights, "_digest", lambda _: pytest.fail("it was read again"))
    assert weights.of_folder(folder, kept) == first


@pytest.mark.parametrize("text", ["", "[]", "no JSON", '{"a": 1}'])
def test_a_damaged_hash_cache_is_rewritten(tmp_path: Path, text: str) -> None:
    kept, folder = tmp_path / "kept.json", model(tmp_path / "a")
    kept.write_text(text)
    assert weights.of_folder(folder, kept) == weights.of_folder(folder)
    assert len(json.loads(kept.read_text())) >= 5


def test_a_folder_without_a_model_has_no_identity(tmp_path: Path) -> None:
    assert weights.of_folder(tmp_path) is None
    assert weights.of_folder(tmp_path / "absent") is None


def test_a_hub_id_has_the_commit_of_its_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = pytest.importorskip("runner.models.pipeline", reason="the runner's extra is not installed")
    snapshot = tmp_path / "models--a--b/snapshots/0123456789abcdef0123456789abcdef01234567"
    monkeypatch.setattr(pipeline, "try_to_load_from_cache", lambda *_, **__: str(snapshot / "model_index.json"))
    assert pipeline.weights_of(a_job(model="a/b")) == snapshot.name


def test_a_synthetic_model_is_known_by_configuration_and_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    synthetic = pytest.importorskip("runner.models.synthetic", reason="the runner's extra is not installed")
    tiny = synthetic.identity("tiny")
    assert tiny == synthetic.identity("tiny") != synthetic.identity("small")
    monkeypatch.setattr(synthetic, "WEIGHTS_SEED", 1)
    assert synthetic.identity("tiny") != tiny
