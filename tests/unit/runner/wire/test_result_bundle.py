"""A bundle holds what it should and nothing else; a receipt is one line that says what became of it."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from builders import a_job

from runner.wire.delivery import delivered
from runner.wire.result_bundle import LIMIT_BYTES, Receipt, ResultBundle, UploadStatus, digest

BUNDLE = ResultBundle("r", "j", "device\n", "{}", 143)
JOB = a_job(samples=(1,))


def with_members(**members: object) -> bytes:
    return json.dumps({**json.loads(BUNDLE.to_bytes()), **members}).encode()


def test_a_bundle_comes_back_as_it_was() -> None:
    odd = replace(BUNDLE, results='a,"é\u2028\x00"\n')
    assert ResultBundle.from_bytes(odd.to_bytes()) == odd


@pytest.mark.parametrize(
    ("data", "wrong"),
    [
        (b"", "not a result bundle"),
        (b"[]", "not a result bundle of version 1"),
        (BUNDLE.to_bytes()[:-9], "not a result bundle"),
        (b"[" * 100_000, "not a result bundle"),
        (b"\xff\xfe{}", "not a result bundle"),
        (with_members(parcel=2), "of version 1"),
        (with_members(more="x"), "its members are not run, job, results, environment, exit_code"),
        (with_members(exit_code=True), "its members"),
        (with_members(results=None), "its members"),
        (BUNDLE.to_bytes().replace(b'"job"', b'"run"'), "twice"),
        (b" " * (LIMIT_BYTES + 1), "the limit is 16777216"),
    ],
)
def test_what_is_no_bundle_is_refused_with_the_reason(data: bytes, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        ResultBundle.from_bytes(data)


def test_a_receipt_is_one_line_and_other_lines_are_none() -> None:
    receipt = Receipt(UploadStatus.FAILED, digest(b"x"), 1, 3, 'said\n"no"')
    assert "\n" not in receipt.to_line()
    assert Receipt.from_line(receipt.to_line()) == receipt
    for line in ("", "{}", "[1]", '{"kind":"receipt"}', '{"kind":"loading","at":0}', "{" * 50_000, "null"):
        assert Receipt.from_line(line) is None


def delivering(folder: Path, ending: BaseException | None, upload_grant: str | None = "") -> Receipt | None:
    """The receipt of a job that ends like this, and whose upload grant says this: empty, that there is none to use."""
    out, environ = io.StringIO(), {}
    if upload_grant is not None:
        (folder / "ticket").write_text(upload_grant)
        environ = {"RUNNER_TICKET_FILE": str(folder / "ticket"), "RUNNER_RECEIPT_FILE": str(folder / "receipt")}
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(type(ending) if ending else SystemExit), delivered(JOB, folder, out, environ):
        (folder / "results.csv").write_text("rows so far\n")
        if ending:
            raise ending
    signal.signal(signal.SIGTERM, before)
    return Receipt.from_line(out.getvalue()) if out.getvalue() else None


@pytest.mark.parametrize(
    ("ending", "code"), [(None, 0), (SystemExit(143), 143), (KeyboardInterrupt(), 130), (OSError("disk"), 2)]
)
def test_a_job_that_ends_in_any_way_delivers_rows_and_exit_code(
    tmp_path: Path, ending: BaseException | None, code: int
) -> None:
    receipt = delivering(tmp_path, ending)
    expected = ResultBundle("r", "j", "rows so far\n", "", code).to_bytes()
    assert receipt == Receipt(UploadStatus.FAILED, digest(expected), len(expected), 0, "the upload grant is empty")
    assert Receipt.from_line((tmp_path / "receipt").read_text()) == receipt


def test_an_unreadable_upload_grant_is_reported_without_its_text(tmp_path: Path) -> None:
    receipt = delivering(tmp_path, None, '{"url": "http://store/secret')
    assert receipt is not None
    assert receipt.outcome is UploadStatus.FAILED
    assert "secret" not in receipt.error


def test_without_an_upload_grant_nothing_is_uploaded_or_printed(tmp_path: Path) -> None:
    assert delivering(tmp_path, None, upload_grant=None) is None


def test_what_both_sides_import_needs_the_standard_library_alone() -> None:
    shared = [f"runner.wire.{path.stem}" for path in Path("runner/wire").glob("[a-z]*.py")]
    modules = ", ".join(["runner.catalog", "runner.models.folders", "runner.schema", *shared])
    # -S: without site-packages
    subprocess.run([sys.executable, "-S", "-c", f"import {modules}"], env={"PYTHONPATH": os.getcwd()}, check=True)
