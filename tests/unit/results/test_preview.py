from __future__ import annotations

import base64
import json
import struct
import zlib
from pathlib import Path

import pytest
from builders import a_job

from orchestrator.results.preview import LIMIT_BYTES, LONGEST_SIDE, SIGNATURE, checked, taken_out
from orchestrator.runs.folder import Run

CASES = ("c1", "c2")


def chunk(name: bytes, content: bytes = b"") -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def head(width: int = 8, height: int = 4, kind: tuple[int, ...] = (8, 2, 0, 0, 0)) -> bytes:
    return chunk(b"IHDR", struct.pack(">II5B", width, height, *kind))


DATA, END = chunk(b"IDAT", zlib.compress(bytes((8 * 3 + 1) * 4))), chunk(b"IEND")
PNG = SIGNATURE + head() + DATA + END


def document(case: object = "c1", png: object = None) -> str:
    text = base64.b64encode(PNG).decode() if png is None else png
    return json.dumps({"os": "Ubuntu", "preview": {"case": case, "png": text}})


def test_a_plain_picture_is_taken_out_of_the_environment() -> None:
    text, found = taken_out(document(), CASES)
    assert found is not None
    assert (found.png, found.width, found.height) == (PNG, 8, 4)
    assert json.loads(text) == {"os": "Ubuntu", "preview": {"case": "c1"}}


@pytest.mark.parametrize(
    "png",
    [
        b"",
        b"GIF89a",
        SIGNATURE,
        SIGNATURE + head() + END,
        SIGNATURE + DATA + head() + END,
        SIGNATURE + head() + DATA,
        PNG + b"<script>",
        PNG[:-1],
        PNG[:-6] + b"x" + PNG[-5:],
        SIGNATURE + head() + chunk(b"iCCP", b"x" * 40) + DATA + END,
        SIGNATURE + head() + chunk(b"zTXt", b"x" * 40) + DATA + END,
        SIGNATURE + head(width=LONGEST_SIDE + 1) + DATA + END,
        SIGNATURE + head(height=0) + DATA + END,
        SIGNATURE + head(width=2**31) + DATA + END,
        SIGNATURE + head(kind=(16, 2, 0, 0, 0)) + DATA + END,
        SIGNATURE + head(kind=(8, 3, 0, 0, 0)) + DATA + END,
        SIGNATURE + head() + chunk(b"IDAT", b"x" * LIMIT_BYTES) + END,
        SIGNATURE + struct.pack(">I", 2**32 - 1) + b"IHDR",
    ],
)
def test_anything_but_a_small_plain_png_is_refused(png: bytes) -> None:
    assert checked(png) is None
    text, found = taken_out(document(png=base64.b64encode(png).decode()), CASES)
    assert found is None
    assert json.loads(text) == {"os": "Ubuntu"}


@pytest.mark.parametrize("member", [None, 3, "x", [], {}, {"case": "c1"}, {"case": "c1", "png": 3}, {"png": "x"}])
def test_a_member_of_another_shape_leaves_nothing(member: object) -> None:
    text, found = taken_out(json.dumps({"preview": member}), CASES)
    assert (json.loads(text), found) == ({}, None)


@pytest.mark.parametrize("case", ["c9", None, 1, ["c1"], "../c1"])
def test_a_picture_of_no_case_of_the_job_is_refused(case: object) -> None:
    assert taken_out(document(case), CASES)[1] is None


@pytest.mark.parametrize("text", ["é", "a b", "====", "x" * 10_000_000])
def test_text_that_is_no_base64_is_refused(text: str) -> None:
    assert taken_out(document(png=text), CASES)[1] is None


def test_an_environment_without_a_picture_is_kept_as_it_is() -> None:
    assert taken_out('{"os": "Ubuntu"}', CASES) == ('{"os": "Ubuntu"}', None)
    assert taken_out("[1]", CASES) == ("[1]", None)


def test_a_run_keeps_the_picture_beside_the_environment(tmp_path: Path) -> None:
    run, job = Run(tmp_path), a_job()
    run.keep_environment(job, document().encode())
    assert (run.job(job.id) / "preview.png").read_bytes() == PNG
    assert json.loads((run.job(job.id) / "environment.json").read_text()) == {"os": "Ubuntu", "preview": {"case": "c1"}}
