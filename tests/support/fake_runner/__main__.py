"""Stands in for the runner in a container, in milliseconds: writes real rows, and misbehaves as the job's prompt asks.

The prompt is a list of deeds, done in order: `sleep 0.5`, `wait` (until `go` is in its folder), `say TEXT`,
`chat BYTES`, `rows`, `half a line`, `no rows`, `big`, `link`, `fifo`, `folder`, `token`, `hog MEGABYTES` (in a child),
`bloat MEGABYTES`, `fill` (its disk), `occupy FOLDER` (fails where another has a GPU of it), `compile` (says whether
that was done before), `hang` (deaf to SIGTERM), `exit 3`, `gap` (frames begin anew, as if some were lost), `unfinished`
(exits with 0 without the last frame), `picture` (the largest that is taken, in
environment.json) and `python CODE`, whose code is in base64 and knows job, folder, results and
rows. Where no deed is about rows, it writes one for each case.
"""

import base64
import hashlib
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

from runner.schema import Case, Event, EventKind, Job, Row, Status, Validity, format_rows
from runner.wire import frames
from runner.wire.delivery import delivered

TOKEN_WAIT_S = 120


def main(job_file: Path) -> int:
    job, folder = Job.from_json(job_file.read_bytes()), job_file.parent
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with delivered(job, folder, sys.stdout):
        if code := misbehave(job, folder):
            sys.exit(code)
    return 0


def misbehave(job: Job, folder: Path) -> int:
    results = folder / "results.csv"
    rows = format_rows(good_row(job, case) for case in job.cases)
    print(Event(kind=EventKind.LOADING, at=time.time()).to_json(), flush=True)
    stream = os.environ.get(frames.VARIABLE)
    framed = frames.FrameWriter(sys.stdout if stream else io.StringIO(), stream or "")
    deeds = [deed.strip() for deed in job.prompt.split(";")]
    if not any(deed in ("rows", "half a line", "no rows", "big", "link", "fifo", "folder") for deed in deeds):
        deeds.insert(0, "rows")
    for deed in deeds:
        word, _, argument = deed.partition(" ")
        match word:
            case "sleep":
                time.sleep(float(argument))
            case "wait":
                while not (folder / "go").exists():
                    time.sleep(0.02)
            case "say":
                print(argument, flush=True)
            case "chat":
                print("x" * int(argument), flush=True)
            case "rows":
                results.write_text(rows)
                framed.put("results.csv", rows)
            case "half":
                results.write_text(rows[: len(rows) - 40])
                framed.put("results.csv", rows[: len(rows) - 40])
            case "gap":
                framed.add("results.csv", "lost")
                print("A log that was cut would look like this:", flush=True)
                framed = frames.FrameWriter(sys.stdout, stream or "")
            case "big":
                with results.open("wb") as file:
                    file.truncate(17 * 2**20)
            case "link":
                results.symlink_to("/etc/passwd")
            case "fifo":
                os.mkfifo(results)
            case "folder":
                results.mkdir()
            case "token":
                seen = json.dumps(seen_token())
                (folder / "environment.json").write_text(seen)
                framed.put("environment.json", seen)
            case "picture":
                seen = environment_with_picture(job.cases[0].id)
                (folder / "environment.json").write_text(seen)
                framed.put("environment.json", seen)
            case "compile":
                compile_once(Path(os.environ["TRITON_CACHE_DIR"]))
            case "hog":
                hog(int(argument))
            case "bloat":
                bytearray(os.urandom(2**20)) * int(argument)
            case "fill":
                fill(folder / "scratch" / "everything")
            case "occupy":
                occupy(Path(argument))
            case "hang":
                signal.signal(signal.SIGTERM, signal.SIG_IGN)
                print("hanging", flush=True)
                time.sleep(3600)
            case "python":
                exec(base64.b64decode(argument), {"job": job, "folder": folder, "results": results, "rows": rows})
            case "exit" if int(argument) == 0:
                break
            case "exit":
                return int(argument)
            case "unfinished":
                return 0
    framed.end()
    return 0


def good_row(job: Job, case: Case) -> Row:
    """What a real runner would write of a case whose every call took 10 ms."""
    return Row.of(
        job,
        case,
        Status.OK,
        device="fake",
        height=job.height or 64,
        width=job.width or 64,
        latency=0.01,
        latency_median=0.01,
        trials=(0.01,) * job.repeats,
        repeats=job.repeats,
        throughput=6000.0 * (1 if case.samples == "max" else case.samples),
        validity=Validity.VALID,
    )


def environment_with_picture(case: str) -> str:
    """environment.json with a PNG of noise, 512 × 192."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    lines = b"".join(b"\0" + os.urandom(3 * 512) for _ in range(192))
    head = struct.pack(">II5B", 512, 192, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return json.dumps({"preview": {"case": case, "png": base64.b64encode(png).decode()}})


def seen_token() -> dict[str, object]:
    file = Path(os.environ.get("RUNNER_TOKEN_FILE", "/nowhere"))
    deadline = time.monotonic() + TOKEN_WAIT_S
    while not file.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    token = file.read_bytes() if file.exists() else None
    return {
        "sha256": hashlib.sha256(token).hexdigest() if token is not None else None,
        "mode": oct(file.stat().st_mode & 0o777),
    }


def occupy(folder: Path) -> None:
    gpus = [folder / gpu for gpu in os.environ["CUDA_VISIBLE_DEVICES"].split(",")]
    for gpu in gpus:
        gpu.mkdir()
    time.sleep(0.2)
    for gpu in gpus:
        gpu.rmdir()


def compile_once(folder: Path) -> None:
    print("warm" if folder.exists() else "cold", flush=True)
    folder.mkdir(parents=True, exist_ok=True)


def fill(file: Path) -> None:
    with file.open("wb") as out:
        while True:
            out.write(bytes(2**20))


def hog(megabytes: int) -> None:
    """Takes memory in a child, which the kernel ends; the parent goes on to exit with 0."""
    code = f"b = bytearray({megabytes} * 2**20)\nfor i in range(0, len(b), 4096): b[i] = 1"
    subprocess.run([sys.executable, "-c", code], check=False)


if __name__ == "__main__":
    if sys.argv[1:] == ["probe"]:
        gpus = [{"index": index, "uuid": f"GPU-{index}"} for index in range(int(os.environ.get("FAKE_GPUS", "0")))]
        print(json.dumps({"gpus": gpus, "cpus": os.cpu_count()}))
        sys.exit(0)
    sys.exit(main(Path(sys.argv[sys.argv.index("--job") + 1])))
