"""DeepSpeed-MII's persistent deployment from its tutorial: a server that the client calls over gRPC (`mii.legacy`).

The server runs DeepSpeed inference in its own process. The client's call is timed; the server's own time goes to the
log. The server takes no latents, so its images come from other noise than those of all other engines.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from PIL.Image import Image

from runner import engines
from runner.engines import Memory, deepspeed
from runner.engines.session import image_size
from runner.errors import LoadError
from runner.models import pipeline
from runner.schema import Job
from runner.telemetry import memory

# Set in every process of a deployment, so that those left by a crash can be found.
MARK = "RUNNER_MII_DEPLOYMENT"
GPUS = "RUNNER_MII_GPUS"
END_TIMEOUT_S = 20.0
RUNNER = Path(__file__).parents[2]  # the folder from which the server imports the runner

# The server's sitecustomize.py. Only the process that loads the model has a LOCAL_RANK. There DeepSpeed's launcher
# numbers GPUs from 0, whichever this process was given, and the text encoder lacks the attribute that DeepSpeed sets.
# Images are returned as bytes, in which NaN is 0; the server's numpy warns of NaN, and the warning becomes an error.
# DeepSpeed builds its operators there, some of them in the first call.
NOT_A_NUMBER = "invalid value encountered in cast"
SITE = f"""\
import os
if "LOCAL_RANK" in os.environ:
    if os.environ.get("{GPUS}"):
        os.environ["CUDA_VISIBLE_DEVICES"] = os.environ["{GPUS}"]
    from transformers import CLIPTextModel
    if not hasattr(CLIPTextModel, "text_model"):
        CLIPTextModel.text_model = property(lambda self: self)
    import warnings
    warnings.filterwarnings("error", "{NOT_A_NUMBER}")
    from runner.engines import operator_locks
    operator_locks.use_system_locks()
"""


def load(job: Job, token: str | None) -> MiiSession:
    deepspeed.check(job)
    engines.library("mii")
    device = pipeline.torch_device(job)
    deepspeed.set_build_environment(torch.cuda.get_device_capability(device))
    if shutil.which("deepspeed") is None:
        raise LoadError("MII starts its server with `deepspeed`, which is neither on the PATH nor beside Python")
    folder = tempfile.TemporaryDirectory(prefix="mii-")
    try:
        height, width = save_model(job, token, Path(folder.name) / "model")
        return deploy(job, Path(folder.name), folder, (height, width))
    except BaseException:
        folder.cleanup()
        raise


def save_model(job: Job, token: str | None, folder: Path) -> tuple[int, int]:
    """Saves the job's model to a folder, from which the server loads it offline. Returns the image's height, width."""
    pipe = pipeline.load(job, torch.float16, token)
    deepspeed.check_model(pipe)
    pipe.save_pretrained(folder)
    return image_size(pipe, job)


def deploy(job: Job, folder: Path, owner: tempfile.TemporaryDirectory[str], size: tuple[int, int]) -> MiiSession:
    """Starts the server and waits until it listens. Ends all of its processes if that fails."""
    mii = engines.library("mii").legacy
    name = folder.name
    (folder / "site").mkdir()
    (folder / "site/sitecustomize.py").write_text(SITE)
    environment = server_environment(os.environ, name, folder)
    os.environ.update(environment)
    # The client uses the main thread's event loop, which does not exist yet.
    asyncio.set_event_loop(asyncio.new_event_loop())
    model_config, mii_config = settings(folder / "model", *free_ports())
    try:
        mii.deploy(deployment_name=name, model_config=model_config, mii_config=mii_config)
        client = mii.mii_query_handle(name)
    except BaseException as error:
        end_processes(name)
        if isinstance(error, RuntimeError) and "server crashed" in str(error):
            raise LoadError("MII's server ended during its start; its output is in the log") from error
        raise
    return MiiSession(job, name, client, owner, size)


def settings(model: Path, port: int, dist_port: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """MII's model and deployment configurations. Without `skip_model_check` MII would list the whole hub."""
    model_config = {
        "model": str(model),
        "task": "text-to-image",
        "dtype": "fp16",
        "skip_model_check": True,
        "replace_with_kernel_inject": True,
        "enable_cuda_graph": True,
        "torch_dist_port": dist_port,
    }
    return model_config, {"deployment_type": "local", "port_number": port}


def server_environment(ours: Mapping[str, str], name: str, folder: Path) -> dict[str, str]:
    paths = [str(folder / "site"), str(RUNNER), *filter(None, ours.get("PYTHONPATH", "").split(os.pathsep))]
    return {
        MARK: name,
        GPUS: ours.get("CUDA_VISIBLE_DEVICES", ""),
        "PYTHONPATH": os.pathsep.join(paths),
        "MII_CACHE_PATH": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
    }


def free_ports() -> tuple[int, int]:
    """A port whose successor is free too (load balancer and server), and a port for torch.distributed."""
    for _ in range(100):
        with contextlib.ExitStack() as held:
            port = _bind(held, 0)
            with contextlib.suppress(OSError, OverflowError):
                _bind(held, port + 1)
                return port, _bind(held, 0)
    raise LoadError("no two neighbouring TCP ports are free")


def _bind(held: contextlib.ExitStack, port: int) -> int:
    listener = held.enter_context(socket.socket())
    listener.bind(("127.0.0.1", port))
    return int(listener.getsockname()[1])


def processes(name: str) -> Iterator[psutil.Process]:
    """Yields a deployment's processes, even reparented ones; not this process, which has the mark too."""
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and process.environ().get(MARK) == name:
                yield process


def end_processes(name: str, patience_s: float = 0.0) -> None:
    """Waits for a deployment's processes to exit, then kills those that remain."""
    deadline = time.monotonic() + patience_s
    while (left := list(processes(name))) and time.monotonic() < deadline:
        psutil.wait_procs(left, timeout=0.2)
    for process in left:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, timeout=END_TIMEOUT_S)


class MiiSession:
    """The client of a deployment. Device memory is the server's and unknown to the client."""

    one_shape = True

    def __init__(
        self, job: Job, name: str, client: Any, folder: tempfile.TemporaryDirectory[str], size: tuple[int, int]
    ) -> None:
        self._job, self._name, self._client, self._folder = job, name, client, folder
        self.server_s: list[float] = []
        self.facts = {"height": size[0], "width": size[1], "xformers": True}

    def generate(self, samples: int) -> list[Image]:
        grpc = engines.library("grpc")
        try:
            reply = self._client.query(
                {"prompt": [self._job.prompt] * samples},
                num_inference_steps=self._job.steps,
                guidance_scale=float(self._job.guidance),
                height=self.facts["height"],
                width=self.facts["width"],
            )
        except grpc.RpcError as error:
            if NOT_A_NUMBER in str(error.details()):
                raise RuntimeError("MII's server: the decoded image has NaN in it") from error
            # The server's message, from which out of memory is recognized.
            raise RuntimeError(f"MII's server: {error.details()}") from error
        self.server_s.append(reply._response.time_taken)
        images: list[Image] = reply.images
        return images

    def synchronize(self) -> None:
        """Nothing to wait for: the reply holds the images."""

    def reset_memory(self) -> None:
        memory.reset_host_peak()

    def memory(self) -> Memory:
        return Memory(None, None, memory.host_peak_gb())

    def remark(self) -> None:
        return None

    def misplaced(self) -> None:
        """Unknown: DeepSpeed's kernels run on GPUs only, and the server does not report its memory."""

    def is_finite(self) -> bool:
        """True after an answer: the server raises for NaN."""
        return True

    def close(self) -> None:
        """Asks the server to terminate, then kills what remains of it."""
        if self.server_s:
            print(f"mii: the server's own time, median: {statistics.median(self.server_s):.4f} s", file=sys.stderr)
        grpc = engines.library("grpc")
        with contextlib.suppress(grpc.RpcError, TimeoutError, asyncio.TimeoutError):
            asyncio.get_event_loop().run_until_complete(asyncio.wait_for(self._client.terminate_async(), END_TIMEOUT_S))
        end_processes(self._name, END_TIMEOUT_S)
        self._folder.cleanup()
