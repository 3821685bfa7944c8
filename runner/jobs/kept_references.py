"""Keeps reference images for later jobs, in the folder that RUNNER_REFERENCES names.

An image is read back only for the same work with the same weights, precision, offload, threads, device and software.
"""

from __future__ import annotations

import contextlib
import io
import os
import stat
import sys
import tempfile
from pathlib import Path

from runner.schema import Job, stable_hash

VARIABLE = "RUNNER_REFERENCES"
# A larger file is not read: whatever an earlier job wrote must not fill the memory. A PNG of 1024×1024 has about 3 MB.
LARGEST_BYTES = 256 * 2**20


def file_of(job: Job) -> Path | None:
    """Where the reference of a job is kept; None if no folder is named, or its weights are not on this machine yet.

    Imports the engines' libraries, which know the device, and sets PyTorch's threads as the job asks.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    from runner.jobs.worker import provenance
    from runner.models import pipeline
    from runner.telemetry.probe import cpu_model

    if (weights := pipeline.weights_of(job)) is None:
        return None
    pipeline.set_threads(job)  # `provenance` has their number
    found = provenance(job)
    # a hub model's commit does not tell which of its variants is on this machine; the remark does
    facts = [job.work(1), weights, pipeline.remark(job), job.precision.value, job.offload, job.device.value, job.image]
    return Path(folder) / f"{stable_hash([*facts, cpu_model(), dict(found.cells), dict(found.details)], 32)}.png"


def read(file: Path) -> bytes | None:
    """The image as PNG; None if none is kept, or it is damaged."""
    from PIL import Image

    try:
        png = _content(file)
        Image.open(io.BytesIO(png), formats=("PNG",)).verify()  # every checksum, and that it is whole
    except FileNotFoundError:
        return None
    except Exception as error:  # Pillow has no class of its own for a damaged file
        print(f"runner: {file} is not used: {error}", file=sys.stderr)
        return None
    print(f"runner: the reference image is read from {file}", file=sys.stderr)
    return png


def _content(file: Path) -> bytes:
    with open(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as opened:
        if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
            raise OSError("it is not a regular file")
        png = opened.read(LARGEST_BYTES + 1)
    if len(png) > LARGEST_BYTES:
        raise OSError(f"it has more than {LARGEST_BYTES} bytes")
    return png


def keep(file: Path, png: bytes) -> None:
    """Writes the whole image or none. If that fails, the next job draws it again."""
    draft = None
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as opened:
            draft = Path(opened.name)
            opened.write(png)
        os.replace(draft, file)
    except OSError as error:
        print(f"runner: the reference image is not kept for later jobs: {error}", file=sys.stderr)
        if draft is not None:
            with contextlib.suppress(OSError):
                draft.unlink()
