"""What kills, hangs or fills a child costs one case its measurement, and no case its row. With real processes."""

from __future__ import annotations

import importlib.util
import inspect
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fake_engine
import pytest
from builders import a_job
from paths import ROOT

from runner.jobs.run import run_job
from runner.jobs.supervise import ChildExit, Tail, context, supervise
from runner.jobs.worker import Preview, Provenance
from runner.schema import EventKind, Job, Row, Status, parse_rows
from runner.telemetry import limits
from runner.wire.output import EventStream, RowFile

PROC = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc, which is Linux's")


class Ear:
    """Remembers all that is said of a job."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.kinds: list[EventKind] = []
        self.pids: list[int] = []
        self.imported_by: list[int] = []
        self.text = b""

    def row(self, row: Row) -> None:
        self.rows.append(row)

    def event(self, event: object) -> None:
        self.kinds.append(event.kind)  # type: ignore[attr-defined]

    def provenance(self, provenance: Provenance) -> None:
        self.pids.append(provenance.details["pid"])
        self.imported_by.append(provenance.details["imported_by"])

    def preview(self, preview: Preview) -> None:
        raise AssertionError(preview)

    def log(self, text: bytes) -> None:
        self.text += text

    @property
    def statuses(self) -> list[str]:
        return [row.status.value for row in self.rows if row.status]


def outcome(job: Job, token: str | None = None) -> Ear:
    ear = Ear()
    supervise(job, token, ear, fake_engine.work, fake_engine.processes())
    assert [row.case for row in ear.rows] == [case.id for case in job.cases]
    assert ear.kinds.count(EventKind.CASE_ENDED) == len(job.cases)
    return ear


def test_one_child_does_all_cases_with_one_load() -> None:
    ear = outcome(a_job())
    assert ear.statuses == ["ok", "ok", "ok"]
    assert len(ear.pids) == 1
    assert ear.kinds.count(EventKind.LOADING) == ear.kinds.count(EventKind.LOADED) == 1


def test_a_killed_child_fails_only_its_case_and_names_the_signal() -> None:
    ear = outcome(a_job(f"2:signal={signal.SIGSEGV.value}"))
    assert ear.statuses == ["ok", "failed", "ok"]
    assert ear.rows[1].error == "the process was killed by SIGSEGV"
    assert len(set(ear.pids)) == 2


def test_a_sigkill_without_an_oom_count_is_failed_not_oom() -> None:
    assert outcome(a_job("1:signal=9")).statuses == ["failed", "ok", "ok"]


def test_a_child_that_exits_leaves_its_code_and_last_line_in_the_row() -> None:
    ear = outcome(a_job("3:exit=7"))
    assert ear.statuses == ["ok", "ok", "failed"]
    assert ear.rows[2].error == "the process exited with 7; its last line: the last words"
    assert b"the last words\n" in ear.text


def test_even_exit_code_0_without_a_row_is_failed() -> None:
    assert outcome(a_job("1:exit=0")).statuses == ["failed", "ok", "ok"]


def test_a_case_that_hangs_is_timeout_and_the_next_goes_on() -> None:
    for limit_s in (4, 30):  # a busy machine may be slow once
        ear = outcome(a_job("2:hang", timeout_s=float(limit_s)))
        if ear.statuses == ["ok", "timeout", "ok"]:
            break
    assert ear.statuses == ["ok", "timeout", "ok"]
    assert f"limit of {limit_s} s" in str(ear.rows[1].error)


def test_a_memory_error_is_oom_and_the_same_child_goes_on() -> None:
    ear = outcome(a_job("2:out-of-memory"))
    assert ear.statuses == ["ok", "oom", "ok"]
    assert len(ear.pids) == 1


def test_a_child_that_dies_during_loading_is_not_restarted_per_case() -> None:
    ear = outcome(a_job("load:exit=3"))
    assert ear.statuses == ["failed"] * 3
    assert len(ear.pids) == 1
    assert "while the model was loaded" in str(ear.rows[0].error)


def test_a_load_error_is_one_clear_line_in_every_row_and_no_traceback() -> None:
    ear = outcome(a_job("load:missing"))
    assert {row.error for row in ear.rows} == {"there is no such model"}
    assert ear.statuses == ["failed"] * 3
    assert b"Traceback" not in ear.text


def test_what_an_engine_refuses_is_unsupported_with_its_reason() -> None:
    ear = outcome(a_job("load:unsupported"))
    assert ear.statuses == ["unsupported"] * 3
    assert ear.rows[0].error == "not on this moon"


def test_an_engine_for_one_shape_gets_a_process_for_each_case() -> None:
    ear = outcome(a_job("one-shape"))
    assert ear.statuses == ["ok"] * 3
    assert len(set(ear.pids)) == 3


@PROC
def test_nothing_that_a_child_started_outlives_it(tmp_path: Path) -> None:
    outcome(a_job(f"1:leave-server={tmp_path / 'pid'}"))
    server = int((tmp_path / "pid").read_text())
    deadline = time.monotonic() + 60
    while is_running(server) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not is_running(server)


def is_running(pid: int) -> bool:
    """A zombie that nobody has waited for does not run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_modules_that_the_server_imports_exist() -> None:
    """It ignores a module that it cannot import."""
    names = inspect.signature(context).parameters["preload"].default
    assert [name for name in names if importlib.util.find_spec(name) is None] == []


@PROC
def test_children_fork_from_one_server_that_has_imported_all() -> None:
    first, second = (outcome(a_job(samples=(1,))) for _ in range(2))
    assert first.pids != second.pids
    assert first.imported_by == second.imported_by != first.pids


def test_the_token_reaches_the_child_and_no_row_or_log(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    with RowFile.fresh(tmp_path / "results.csv") as rows:
        run_job(
            a_job("1:tell-token"),
            rows,
            EventStream(sys.stdout),
            "hf_secret",
            environment_file=tmp_path / "environment.json",
            work=fake_engine.work,
            processes=fake_engine.processes(),
        )
    out, err = capfdbinary.readouterr()
    assert b"the token is [token]" in err
    everything = out + err + b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"hf_secret" not in everything
    assert b"cannot log in with [token]" in everything


def test_a_secret_read_in_two_chunks_is_still_removed() -> None:
    tail = Tail()
    assert [tail.whole(piece) for piece in (b"a\nhf_se", b"cret\nb", b"")] == [b"a\n", b"hf_secret\n", b"b"]
    assert tail.last == "b"


def test_an_oom_kill_is_distinguished_from_other_kills() -> None:
    exited = ChildExit(-9, timed_out=False, loading=False, out_of_memory=True, started="")
    assert exited.verdict(a_job())[0] is Status.OOM
    exited = ChildExit(-9, timed_out=False, loading=False, out_of_memory=False, started="")
    assert exited.verdict(a_job()) == (Status.FAILED, "the process was killed by SIGKILL")


SCRIPT = """
import sys
import fake_engine
from runner.jobs.run import run_job
from runner.wire.output import EventStream, RowFile
from runner.schema import Job
from runner.jobs.supervise import context
if __name__ == "__main__":
    job = Job.from_json(open(sys.argv[1]).read())
    with RowFile.fresh(__import__("pathlib").Path(sys.argv[2])) as rows:
        run_job(job, rows, EventStream(sys.stdout), work=fake_engine.work, processes=context(("fake_engine",)))
"""


def runner_process(tmp_path: Path, job: Job, *before: str) -> subprocess.Popen[str]:
    """A parent of its own, to be limited or killed."""
    (tmp_path / "job.json").write_text(job.to_json())
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(ROOT / "tests/support"), str(ROOT)])
    command = [*before, sys.executable, str(tmp_path / "script.py"), str(tmp_path / "job.json"), str(tmp_path / "rows")]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def small_cgroup() -> Iterator[Path]:
    """A memory cgroup of 150 MB."""
    parents = [folder for folder in limits.cgroup_folders("memory") if os.access(folder, os.W_OK)]
    if not parents:
        pytest.skip("needs a memory cgroup that it may divide: root, outside of a container")
    group = parents[0] / f"test-{os.getpid()}"
    try:
        group.mkdir()
    except OSError as error:
        pytest.skip(f"needs a memory cgroup that it may divide: {error}")
    limit = next((group / name for name in ("memory.max", "memory.limit_in_bytes") if (group / name).exists()), None)
    if limit is None:
        group.rmdir()
        pytest.skip("the memory controller is not delegated to this cgroup")
    limit.write_text(str(150 * 2**20))
    yield group
    deadline = time.monotonic() + 60
    while (group / "cgroup.procs").read_text().strip() and time.monotonic() < deadline:
        time.sleep(0.05)
    group.rmdir()


def test_an_oom_kill_by_the_kernel_is_oom_and_the_next_case_runs(tmp_path: Path, small_cgroup: Path) -> None:
    job = a_job(f"2:allocate={300 * 2**20}")
    enter = ("sh", "-c", f'echo $$ > {small_cgroup}/cgroup.procs && exec "$0" "$@"')
    with runner_process(tmp_path, job, *enter) as process:
        process.communicate(timeout=600)
    rows = parse_rows((tmp_path / "rows").read_text())
    assert [row.status for row in rows] == [Status.OK, Status.OOM, Status.OK]
    assert "the limit is 0.2 GB" in str(rows[1].error)


@PROC
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_child_ends_when_the_parent_dies(tmp_path: Path, number: signal.Signals) -> None:
    with runner_process(tmp_path, a_job("2:hang")) as process:
        assert process.stdout
        for line in process.stdout:
            if '"case_started"' in line and '"c2"' in line:
                break
        children = descendants(process.pid)
        assert len(children) > 1
        process.send_signal(number)
        process.wait(240)
    deadline = time.monotonic() + 60
    while any(map(is_running, children)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(map(is_running, children))
    assert len(parse_rows((tmp_path / "rows").read_text())) == 1


def descendants(pid: int) -> list[int]:
    found = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return found + [grandchild for child in found for grandchild in descendants(child)]
