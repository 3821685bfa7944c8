"""Keeps reference images for later jobs, in the folder that RUNNER_REFERENCES names.

An image is read back only for the same work with the same weights, precision, threads, device and software.
"""

from __future__ import annotations

import io
import os
import sys
import tempfile
from pathlib import Path

from runner.schema import Job, stable_hash

VARIABLE = "RUNNER_REFERENCES"


def file_of(job: Job) -> Path | None:
    """Where the reference of a job is kept; None if no folder is named, or its weights are not on this machine yet.

    Imports the engines' libraries, which know the device.
    """
    folder = os.environ.get(VARIABLE)
    if not folder:
        return None
    from runner.jobs.worker import provenance
    from runner.models import pipeline

    if (weights := pipeline.weights_of(job)) is None:
        return None
    found = provenance(job)
    asked = [job.work(1), weights, job.precision.value, job.device.value, job.threads, job.image]
    return Path(folder) / f"{stable_hash([*asked, dict(found.cells), dict(found.details)], 32)}.png"


def read(file: Path) -> bytes | None:
    """The image as PNG; None if none is kept, or it is damaged."""
    from PIL import Image

    try:
        png = file.read_bytes()
        Image.open(io.BytesIO(png)).verify()  # every checksum, and that it is whole
    except FileNotFoundError:
        return None
    except (OSError, ValueError, SyntaxError) as error:  # what Pillow raises for a damaged PNG
        print(f"runner: {file} is not used: {error}", file=sys.stderr)
        return None
    print(f"runner: the reference image is read from {file}", file=sys.stderr)
    return png


def keep(file: Path, png: bytes) -> None:
    """Writes the whole image or none. If that fails, the next job draws it again."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as draft:
            draft.write(png)
        os.replace(draft.name, file)
    except OSError as error:
        print(f"runner: the reference image is not kept for later jobs: {error}", file=sys.stderr)
