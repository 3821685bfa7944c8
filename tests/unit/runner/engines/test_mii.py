"""MII's server: how it is started, asked and ended; its client without it, and, marked `gpu`, itself."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from engines import wait_until
from gpu_jobs import gpu_job, on_gpu, on_the_gpu
from paths import ROOT

from runner.errors import LoadError, Unsupported
from runner.schema import Precision, Status

pytest.importorskip("torch", reason="the runner's extra is not installed")

from runner.engines import mii
from runner.jobs import worker

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_deployment_is_asked_for_the_folder_its_ports_and_injection() -> None:
    model, deployment = mii.settings(Path("/m"), 50000, 50007)
    assert model == {
        "model": "/m",
        "task": "text-to-image",
        "dtype": "fp16",
        "skip_model_check": True,
        "replace_with_kernel_inject": True,
        "enable_cuda_graph": True,
        "torch_dist_port": 50007,
    }
    assert deployment == {"deployment_type": "local", "port_number": 50000}


def test_the_servers_environment_is_offline_and_marked() -> None:
    found = mii.server_environment({"PYTHONPATH": "/a", "CUDA_VISIBLE_DEVICES": "3"}, "d", Path("/f"))
    assert found == {
        mii.MARK: "d",
        mii.GPUS: "3",
        "PYTHONPATH": f"/f/site:{ROOT}:/a",
        "MII_CACHE_PATH": "/f/cache",
        "HF_HUB_OFFLINE": "1",
    }


@pytest.mark.parametrize(("rank", "expected"), [("0", "3 True SystemLock"), (None, "0 False None")])
def test_only_the_process_that_loads_the_model_is_changed(tmp_path: Path, rank: str | None, expected: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(mii.SITE)
    (tmp_path / "transformers.py").write_text("class CLIPTextModel: pass\n")
    program = """
import os, sys, transformers
print(os.environ["CUDA_VISIBLE_DEVICES"], hasattr(transformers.CLIPTextModel, "text_model"), end=" ")
locks = sys.modules.get("torch.utils.cpp_extension")
print(locks and locks.FileBaton.__name__)
"""
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "CUDA_VISIBLE_DEVICES": "0", mii.GPUS: "3"}
    environment |= {"LOCAL_RANK": rank} if rank else {}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected


def test_the_server_refuses_to_make_bytes_of_nan_in_any_of_its_threads(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(mii.SITE)
    (tmp_path / "transformers.py").write_text("class CLIPTextModel: pass\n")
    program = """
import numpy, threading
def make():
    try:
        numpy.full((1, 8, 8, 3), numpy.nan, numpy.float32).round().astype("uint8")
    except RuntimeWarning as warning:
        print(warning)
thread = threading.Thread(target=make)
thread.start()
thread.join()
"""
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "LOCAL_RANK": "0"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == mii.NOT_A_NUMBER


def test_nan_in_the_servers_image_is_told_in_words(session_of: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FakeRpcError, "details", lambda _: f"RuntimeWarning: {mii.NOT_A_NUMBER}")
    session = session_of(FakeClient(FakeRpcError()))
    with pytest.raises(RuntimeError, match="MII's server: the decoded image has NaN in it"):
        session.generate(1)
    session.close()


def test_the_balancers_port_and_the_servers_are_neighbours_and_free() -> None:
    port, dist_port = mii.free_ports()
    assert dist_port not in (port, port + 1)
    assert all(1024 <= each <= 65535 for each in (port, port + 1, dist_port))


@pytest.fixture
def marked() -> Iterator[Any]:
    """Starts processes of a deployment that left their parent's session, as a server might."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> int:
        environment = {**os.environ, mii.MARK: name}
        started.append(subprocess.Popen(["sleep", "600"], env=environment, start_new_session=True))
        pid = started[-1].pid
        # Popen returns when exec has begun; the kernel shows the new environment a moment later
        wait_until(lambda: psutil.Process(pid).environ().get(mii.MARK) == name, 120, "its environment is not shown")
        return pid

    yield start
    for process in started:
        process.kill()
        process.wait()


def test_ending_a_deployment_ends_its_processes_and_no_others(marked: Any) -> None:
    ours, other = marked("ours"), marked("other")
    mii.end_processes("ours")
    assert not psutil.pid_exists(ours)
    assert psutil.Process(other).is_running()


class FakeRpcError(Exception):
    def details(self) -> str:
        return "Exception calling application: CUDA out of memory. Tried to allocate 2 GiB"


class FakeClient:
    """Answers as MII's; terminates as one whose server hangs."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error, self.asked = error, []  # type: ignore[var-annotated]

    def query(self, request: dict[str, Any], **options: Any) -> Any:
        self.asked.append((request, options))
        if self.error:
            raise self.error
        return types.SimpleNamespace(images=["image"], _response=types.SimpleNamespace(time_taken=0.5))

    async def terminate_async(self) -> None:
        raise FakeRpcError


@pytest.fixture
def session_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setitem(sys.modules, "grpc", types.SimpleNamespace(RpcError=FakeRpcError))
    monkeypatch.setattr(mii, "END_TIMEOUT_S", 0.2)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    def make(client: FakeClient, name: str = "d") -> mii.MiiSession:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        return mii.MiiSession(gpu_job("mii"), name, client, tempfile.TemporaryDirectory(), (512, 768))

    yield make
    asyncio.get_event_loop().close()


def test_a_query_carries_the_job_and_the_servers_own_time_is_kept(session_of: Any) -> None:
    client = FakeClient()
    session = session_of(client)
    assert session.generate(2) == ["image"]
    options = {"num_inference_steps": 4, "guidance_scale": 7.5, "height": 512, "width": 768}
    assert client.asked == [({"prompt": ["a photo of an astronaut"] * 2}, options)]
    assert session.server_s == [0.5]
    session.close()


def test_a_server_out_of_memory_is_an_oom_row(session_of: Any) -> None:
    session = session_of(FakeClient(FakeRpcError()))
    with pytest.raises(RuntimeError, match=r"MII's server: .*out of memory") as raised:
        session.generate(1)
    assert worker.status_of(raised.value) is Status.OOM
    session.close()


def test_closing_cleans_up_even_if_the_server_is_dead(session_of: Any, marked: Any, tmp_path: Path) -> None:
    server = marked("closing")
    session = session_of(FakeClient(), "closing")
    assert len(list(tmp_path.iterdir())) == 1
    session.close()
    assert not psutil.pid_exists(server)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_dies_while_it_starts_is_one_line_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, marked: Any, tmp_path: Path
) -> None:
    started: list[int] = []

    def deploy(deployment_name: str, **_: Any) -> None:
        started.append(marked(deployment_name))
        raise RuntimeError("server crashed for some reason, unable to proceed")

    for name in mii.server_environment({}, "", tmp_path):
        monkeypatch.setenv(name, os.environ.get(name, ""))
    legacy = types.SimpleNamespace(deploy=deploy)
    monkeypatch.setitem(sys.modules, "mii", types.SimpleNamespace(legacy=legacy))
    with pytest.raises(LoadError, match="its output is in the log"):
        mii.deploy(gpu_job("mii"), tmp_path, owner := tempfile.TemporaryDirectory(), (64, 64))
    owner.cleanup()
    asyncio.get_event_loop().close()
    assert not psutil.pid_exists(started[0])


@pytest.mark.parametrize("precision", [pytest.param(Precision.HALF, marks=on_gpu)])
@pytest.mark.filterwarnings("ignore")
def test_nan_in_one_channel_is_found_by_miis_server(precision: Precision, poisoned: None) -> None:
    try:
        session = mii.load(gpu_job("mii", model="synthetic:small", precision=precision), None)
    except Unsupported as reason:
        pytest.skip(str(reason))
    try:
        with pytest.raises(RuntimeError, match="NaN"):
            session.generate(1)
    finally:
        session.close()


@pytest.mark.parametrize("precision", [pytest.param(Precision.HALF, marks=on_gpu)])
def test_miis_server_answers_and_is_gone_afterwards(
    precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEST_FOLDER", str(tmp_path))  # tells this job's processes from those of a test beside it
    (row,) = on_the_gpu(tmp_path, "mii", precision=precision)
    if row.status is Status.UNSUPPORTED:
        pytest.skip(str(row.error))
    assert row.status is Status.OK, row.error
    assert row.psnr is None
    assert not [each for each in psutil.process_iter() if _environment(each).get("TEST_FOLDER") == str(tmp_path)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return dict(process.environ())
    except psutil.Error:
        return {}
