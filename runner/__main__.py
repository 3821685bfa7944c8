"""The runner's command line. Rows go to a file, events to standard output, all else to standard error."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from runner.errors import LoadError
from runner.jobs import by_hand, kept_code
from runner.jobs.reference import References
from runner.jobs.run import fail_job, run_job
from runner.measuring import variables
from runner.models import secret
from runner.quality import by_steps
from runner.schema import Job, SchemaError
from runner.telemetry.probe import probe
from runner.wire import delivery
from runner.wire.frames import VARIABLE, FrameWriter
from runner.wire.output import RESULTS, EventStream, RowFile, as_table

TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0 if every case has a row, whatever its status; 2 for wrong input; another code if the runner failed."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words == ["probe"]:
        print(json.dumps(probe()))  # one line, which a reader can find in the output of libraries
        return 0
    if words[:1] == ["quality"]:
        return by_steps.main(words[1:])
    flags = by_hand.parser().parse_args(words)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return _run_file(flags.job) if flags.job else _run_flags(by_hand.jobs(flags), flags.output_file)
    except KeyboardInterrupt:
        return INTERRUPTED
    except OSError as error:
        print(f"runner: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return 2
    except (SchemaError, LoadError) as error:
        print(f"runner: {error}", file=sys.stderr)
        return 2


def _terminate(_signal: int, _frame: FrameType | None) -> None:
    raise SystemExit(TERMINATED)


def _run_file(path: Path) -> int:
    """Runs a job file. Writes results.csv and environment.json beside it and replaces rows of an earlier start.

    If `RUNNER_FRAMES` is set, the files also go to standard output as frames, for a reader that cannot fetch them.
    """
    job = _read_job(path)
    for setting in variables.take_out(os.environ):
        print(f"runner: {setting} would change what is measured; it is removed for this job", file=sys.stderr)
    for reason in kept_code.leave_unwritable(os.environ):
        print(f"runner: compiled code is not kept for later jobs: {reason}", file=sys.stderr)
    events, environment_file = EventStream(sys.stdout), path.parent / "environment.json"
    stream = os.environ.get(VARIABLE)
    frames = FrameWriter(sys.stdout, stream) if stream else None
    with delivery.delivered(job, path.parent, sys.stdout), RowFile.fresh(path.parent / RESULTS, frames) as rows:
        try:
            token = secret.take_token(job.model)
        except LoadError as error:
            fail_job(job, rows, events, str(error), environment_file, frames)
        else:
            run_job(job, rows, events, token, environment_file=environment_file, frames=frames)
    if frames:
        frames.end()
    return 0


def _read_job(path: Path) -> Job:
    content, asked = path.read_bytes(), os.environ.get("RUNNER_JOB_SHA256")
    if asked is not None and asked != hashlib.sha256(content).hexdigest():
        raise SchemaError(f"{path}: the job file was replaced after the start (its hash differs); nothing was run")
    try:
        return Job.from_json(content)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from error


def _run_flags(jobs: Sequence[Job], output: Path) -> int:
    token = secret.take_token(jobs[0].model)
    with RowFile.appended(output) as rows:
        events, references = EventStream(sys.stdout), References()
        written = [row for job in jobs for row in run_job(job, rows, events, token, references=references)]
    print(as_table(written), f"rows appended to {output}", sep="\n", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
