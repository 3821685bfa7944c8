"""Runs jobs as processes of this machine. Each attempt has one folder, which holds all of its state:

task.json   the attempt and its slot; a lock on this file serializes starts
job.json    the runner's input; the runner writes results.csv and environment.json in the same folder
started     marks the attempt as started, so that it never starts twice
lock        held by the process and its shim while they live; the kernel releases it when they die
pid, exit   of the process, written by the shim; log.txt has its standard output and error
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from orchestrator.config import ProcessHost
from orchestrator.errors import BadResult, HostUnfit, StartError
from orchestrator.executors.contract import FILE_LIMIT_BYTES, Attempt, Observation, Slot, State, Task
from orchestrator.executors.process.machine import check_paths, find_slots, job_environment
from orchestrator.files import sync_folder
from runner.wire.result_bundle import Receipt

RUNNER: tuple[str, ...] = (sys.executable, "-m", "runner")
SHIM = Path(__file__).with_name("shim.py")
LOOK_EVERY_S = 0.05
KILL_TIMEOUT_S = 10.0
LONGEST_LINE = 64 * 1024


class ProcessExecutor:
    """The executor of this machine. All runs share `state_dir`, so their jobs see each other's slots.

    runner: the command that takes `--job FILE`; None is RUNNER. Each process's working folder is its attempt's folder:
    Python imports from the working folder, and the user's may hold modules of any name.
    """

    def __init__(self, host: ProcessHost, state_dir: Path, runner: Sequence[str] | None = None) -> None:
        self.host = host
        self.state_dir = state_dir.absolute()
        self.runner = tuple(RUNNER if runner is None else runner)
        self._seen: Mapping[str, State] = {}

    def slots(self) -> tuple[Slot, ...]:
        try:
            self._make_state_dir()
        except OSError as error:
            raise HostUnfit(f"{self.host.name}: {self.state_dir} cannot be made: {error.strerror}") from error
        check_paths(self.host)
        return find_slots(self.host, self.runner)

    def stage(self, task: Task) -> None:
        """Fills a temporary folder, then renames it: an attempt exists completely or not at all."""
        target = self._folder(task.attempt)
        slot = task.slot
        about = {"attempt": task.attempt, "slot": slot.name, "gpus": slot.gpus, "devices": sorted(slot.devices)}
        try:
            if target.exists():
                return
            self._make_state_dir()
            draft = Path(tempfile.mkdtemp(dir=self.state_dir, prefix=f".{target.name}."))
            _write(draft / "job.json", task.job.to_json())
            _write(draft / "task.json", json.dumps(about))
            _write(draft / "lock", "")
            (draft / "log.txt").touch(0o600)  # exists from the start, for `log` with follow
            try:
                draft.rename(target)
            except OSError:
                shutil.rmtree(draft)
                if not target.exists():
                    raise
            sync_folder(self.state_dir)
        except OSError as error:
            raise StartError(f"{target} cannot be made: {error.strerror}") from error

    @contextlib.contextmanager
    def hold(self, attempt: Attempt, slot: Slot) -> Iterator[None]:
        self._make_state_dir()
        with contextlib.ExitStack() as locks:
            for device in sorted(slot.devices):  # a fixed order, so that overlapping slots cannot deadlock
                locks.enter_context(_locked(self.state_dir / f".slot-{device.replace('/', '-')}", "a+b"))
            yield

    def start(self, attempt: Attempt, token: str | None = None, upload_grant: str | None = None) -> None:
        folder = self._folder(attempt)
        try:
            with _locked(folder / "task.json"), (folder / "lock").open("r+b") as lock:
                if (folder / "started").exists():
                    return
                fcntl.flock(lock, fcntl.LOCK_EX)  # before the mark: a reader that sees the mark finds the lock held
                (folder / "started").touch()
                sync_folder(folder)
                try:
                    self._spawn(folder, lock.fileno(), token)
                except (OSError, StartError):
                    (folder / "started").unlink()
                    raise
        except OSError as error:
            if not folder.exists():
                raise StartError(f"nothing is staged as {attempt.name}; stage it again") from error
            raise StartError(f"{attempt.name} cannot be started: {error}") from error

    def _spawn(self, folder: Path, lock: int, token: str | None) -> None:
        """Returns once the process has started. The token goes through a pipe that only the process reads."""
        task, job = _read_json(folder / "task.json"), _read_json(folder / "job.json")
        threads = job["threads"] or self.host.threads
        shim = [sys.executable, "-I", "-S", str(SHIM), str(folder), str(lock)]
        done = subprocess.run(
            [*shim, *self.runner, "--job", str(folder / "job.json")],
            input=b"" if token is None else token.encode(),
            capture_output=True,
            cwd=folder,
            env=job_environment(os.environ, self.host, task["gpus"], threads, folder),
            start_new_session=True,
            pass_fds=(lock,),
            check=False,
        )
        if done.returncode != 0:
            raise StartError(f"{folder.name} cannot be started: {done.stderr.decode(errors='replace').strip()[-500:]}")

    def observe(self) -> Mapping[Attempt, Observation]:
        seen: dict[Attempt, Observation] = {}
        states: dict[str, State] = {}
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError):  # it was removed meanwhile
                task = _read_json(folder / "task.json")
                found = _observation(folder, task["slot"], frozenset(task["devices"]))
                (folder / "task.json").stat()  # else it was removed since, and what it lacked says nothing of its job
                states[folder.name] = found.state
                run, job, number = task["attempt"]
                attempt = Attempt.named(run, job, str(number))
                if attempt is not None and attempt.name == folder.name:
                    seen[attempt] = found
        self._seen = states
        return seen

    def wait(self, timeout_s: float) -> None:
        """Compares with the last listing, and checks only attempts that can still change."""
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, LOOK_EVERY_S))
            seen = self._seen
            if {folder.name for folder in self._folders()} != set(seen):
                return
            if any(_state(self.state_dir / name) is not old for name, old in seen.items() if old is not State.EXITED):
                return

    def fetch(self, attempt: Attempt, file: str, instance: str = "") -> bytes | None:
        path = self._folder(attempt) / Path(file).name
        try:
            source = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise BadResult(f"{path} is not a regular file that can be read: {error.strerror}") from error
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, source)
            if not stat.S_ISREG(os.fstat(source).st_mode):
                raise BadResult(f"{path} is not a regular file")
            content = os.fdopen(source, "rb", closefd=False).read(FILE_LIMIT_BYTES + 1)
        if len(content) > FILE_LIMIT_BYTES:
            raise BadResult(f"{path} has more than the {FILE_LIMIT_BYTES} bytes that are taken")
        return content

    def receipt(self, attempt: Attempt, instance: str = "") -> Receipt | None:
        return None  # the results are already on this machine, so there is no upload

    def log(self, attempt: Attempt, *, follow: bool = False, instance: str = "") -> Iterator[str]:
        folder = self._folder(attempt)
        try:
            source = (folder / "log.txt").open("rb")
        except FileNotFoundError:
            return
        with source:
            line = b""
            while True:
                over = not follow or _state(folder) is not State.RUNNING  # checked first, so the last output is read
                while chunk := source.readline(LONGEST_LINE - len(line)):  # cut at the same bytes, however it grows
                    line += chunk
                    if chunk.endswith(b"\n") or len(line) >= LONGEST_LINE:
                        yield line.decode(errors="replace").rstrip("\r\n")
                        line = b""
                if over:
                    break
                time.sleep(LOOK_EVERY_S)
            if line:
                yield line.decode(errors="replace")

    def stop(self, attempt: Attempt, grace_s: float) -> None:
        """Sends TERM to the process alone, like `docker stop`; then KILL to it and all its descendants."""
        folder = self._folder(attempt)
        process = _process(folder)
        if process is not None:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.terminate()
            _wait_for_end(folder, grace_s)
        if _state(folder) is State.RUNNING:
            _kill(folder)
            _wait_for_end(folder, KILL_TIMEOUT_S)

    def remove(self, attempt: Attempt) -> None:
        folder = self._folder(attempt)
        with contextlib.suppress(FileNotFoundError), _locked(folder / "task.json"):
            self.stop(attempt, 0)
            folder.rename(Path(tempfile.mkdtemp(dir=self.state_dir, prefix=f".{folder.name}.")) / "removed")
        for draft in self.state_dir.glob(f".{folder.name}.*"):
            shutil.rmtree(draft, ignore_errors=True)

    def close(self) -> None:
        """Does nothing: there is no connection."""

    def _make_state_dir(self) -> None:
        """Gives only its owner access: another user who can open a lock there could hold it forever."""
        self.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        about = self.state_dir.stat()
        if about.st_mode & 0o077 and about.st_uid == os.geteuid():  # made by an older version
            self.state_dir.chmod(0o700)

    def _folder(self, attempt: Attempt) -> Path:
        return self.state_dir / attempt.name

    def _folders(self) -> list[Path]:
        try:
            return [Path(entry.path) for entry in os.scandir(self.state_dir) if not entry.name.startswith(".")]
        except FileNotFoundError:
            return []


def _observation(folder: Path, slot: str, devices: frozenset[str]) -> Observation:
    state = _state(folder)
    if state is not State.EXITED:
        ran_s = time.time() - (folder / "started").stat().st_mtime if state is State.RUNNING else None
        return Observation(state, slot, devices=devices, for_s=ran_s)
    try:
        return Observation(state, slot, exit_code=int((folder / "exit").read_text()), devices=devices)
    except FileNotFoundError:
        reason = "it vanished: killed together with its shim, or the machine went down"
        return Observation(state, slot, reason=reason, devices=devices)


def _state(folder: Path) -> State:
    if (folder / "exit").exists():
        return State.EXITED
    if not (folder / "started").exists():
        return State.STAGED
    return State.RUNNING if _is_held(folder / "lock") else State.EXITED


def _is_held(lock: Path) -> bool:
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def _process(folder: Path) -> psutil.Process | None:
    """Finds the attempt's process. The PID may be reused, so the command line must name the attempt's folder."""
    while _state(folder) is State.RUNNING:
        try:
            process = psutil.Process(int((folder / "pid").read_text()))
            return process if str(folder / "job.json") in process.cmdline() else None
        except FileNotFoundError:  # it is starting
            time.sleep(LOOK_EVERY_S)
        except psutil.Error:
            return None
    return None


def _kill(folder: Path) -> None:
    """Stops (SIGSTOP) the process first, so that it starts no more children while its descendants are listed."""
    process = _process(folder)
    if process is None:
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        process.suspend()
        for victim in [*process.children(recursive=True), process]:
            with contextlib.suppress(psutil.NoSuchProcess):
                victim.kill()


def _wait_for_end(folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while _state(folder) is State.RUNNING and (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, LOOK_EVERY_S))


@contextlib.contextmanager
def _locked(path: Path, mode: str = "r+b") -> Iterator[None]:
    with path.open(mode) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, text: str) -> None:
    with path.open("w", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
