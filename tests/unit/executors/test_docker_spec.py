from __future__ import annotations

from dataclasses import replace

import pytest
from builders import a_job, a_task

from orchestrator.config import S3, Collect, DockerHost
from orchestrator.errors import StartError
from orchestrator.executors.contract import Observation, Slot, State, Task, needs_download
from orchestrator.executors.docker.container import attempt_of, container_spec, labels, observation, size_bytes, up_s
from orchestrator.executors.docker.gpu_access import Access
from orchestrator.executors.environment import HUB_CACHES, OFFLINE, WORK_CACHES

HOST = DockerHost(name="desk", url="unix:///var/run/docker.sock", gpus="none")
JOB = a_job("a photo", (1,), run="r1", id="abc", host="desk", threads=2)
TASK = a_task(JOB, number=2, image="sd-orchestrator-cpu:123")


def with_model(model: str) -> Task:
    return replace(TASK, job=replace(JOB, model=model))


def test_the_whole_of_a_create_call() -> None:
    assert container_spec(TASK, HOST) == {
        "Image": "sd-orchestrator-cpu:123",
        "User": "1000:1000",
        "Entrypoint": ["python", "-m", "runner"],
        "Cmd": ["--job", "/job/job.json"],
        "WorkingDir": "/job",
        "Env": [
            "HOME=/job/scratch",
            "TMPDIR=/job/scratch",
            "PYTHONUNBUFFERED=1",
            "PYTHONDONTWRITEBYTECODE=1",
            "PYTHONSAFEPATH=1",
            "HF_HOME=/job/huggingface",
            "HF_HUB_CACHE=/job/huggingface/hub",
            "HUGGINGFACE_HUB_CACHE=/job/huggingface/hub",
            "TRANSFORMERS_CACHE=/job/huggingface/hub",
            "PYTORCH_TRANSFORMERS_CACHE=/job/huggingface/hub",
            "PYTORCH_PRETRAINED_BERT_CACHE=/job/huggingface/hub",
            "DIFFUSERS_CACHE=/job/huggingface/hub",
            "HF_MODULES_CACHE=/job/huggingface/modules",
            "HF_XET_CACHE=/job/huggingface/xet",
            "HF_ASSETS_CACHE=/job/huggingface/assets",
            "HUGGINGFACE_ASSETS_CACHE=/job/huggingface/assets",
            "HF_DATASETS_CACHE=/job/huggingface/datasets",
            "HF_TOKEN_PATH=/job/huggingface/login/token",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN=1",
            "HF_HUB_OFFLINE=1",
            "TRANSFORMERS_OFFLINE=1",
            "HF_DATASETS_OFFLINE=1",
            f"RUNNER_FRAMES={TASK.attempt.name}",
            "OMP_NUM_THREADS=2",
            "MKL_NUM_THREADS=2",
        ],
        "Labels": {
            "sd-orchestrator": "job",
            "sd-orchestrator.run": "r1",
            "sd-orchestrator.job": "abc",
            "sd-orchestrator.attempt": "2",
            "sd-orchestrator.slot": "cpu",
            "sd-orchestrator.host": "desk",
            "sd-orchestrator.devices": "cpu",
        },
        "Volumes": {"/job": {}},
        "HostConfig": {
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Init": True,
            "NetworkMode": "none",
            "PidsLimit": 4096,
            "ShmSize": 2**30,
            "Tmpfs": {
                "/tmp": "exec,nosuid,nodev,size=1g",
                "/run/orchestrator": "noexec,nosuid,nodev,size=64k,mode=0700,uid=1000,gid=1000",
            },
            "Mounts": [],
            "DeviceRequests": [],
            "Devices": [],
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "16m", "max-file": "2"}},
        },
    }


def test_a_model_of_the_hub_has_a_network_and_waits_for_its_token() -> None:
    spec = container_spec(with_model("CompVis/stable-diffusion-v1-4"), HOST)
    assert spec["HostConfig"]["NetworkMode"] == "bridge"
    assert "RUNNER_TOKEN_FILE=/run/orchestrator/token" in spec["Env"]
    assert "HF_HUB_OFFLINE=1" not in spec["Env"]


def test_what_delivers_to_a_store_has_a_network_and_an_address_that_comes_later() -> None:
    spec = container_spec(TASK, HOST.model_copy(update={"collect": Collect(s3=S3(bucket="bench"))}))
    assert spec["HostConfig"]["NetworkMode"] == "bridge"
    assert "RUNNER_TICKET_FILE=/run/orchestrator/ticket" in spec["Env"]
    assert "HF_HUB_OFFLINE=1" in spec["Env"]
    assert "bench" not in str(spec["Env"])


def test_where_the_weights_are_there_already_there_is_no_network() -> None:
    host = HOST.model_copy(update={"weights": "/data/huggingface"})
    spec = container_spec(with_model("CompVis/stable-diffusion-v1-4"), host)
    assert spec["HostConfig"]["NetworkMode"] == "none"
    assert {"HF_HOME=/weights", "HF_HUB_CACHE=/weights/hub", "HF_HUB_OFFLINE=1"} < set(spec["Env"])


def test_of_the_weights_the_cache_alone_is_mounted_without_a_login() -> None:
    host = HOST.model_copy(update={"weights": "/data/huggingface/"})
    spec = container_spec(with_model("CompVis/stable-diffusion-v1-4"), host)
    mount = {"Type": "bind", "Source": "/data/huggingface/hub", "Target": "/weights/hub", "ReadOnly": True}
    assert spec["HostConfig"]["Mounts"] == [mount]
    assert "HF_TOKEN_PATH=/job/huggingface/login/token" in spec["Env"]


def test_what_an_images_env_says_of_the_hub_is_overridden() -> None:
    """An image's ENV may name any of them, and what a create call leaves out stays."""
    online = dict(entry.split("=", 1) for entry in container_spec(with_model("owner/name"), HOST)["Env"])
    assert {online[name] for name in OFFLINE} == {"0"}
    assert {online[name] for name in HUB_CACHES} == {"/job/huggingface/hub"}
    assert online.keys() >= WORK_CACHES.keys()


@pytest.mark.parametrize(("model", "mounted"), [
    ("/hf/hub/models--o--n/snapshots/abc", "/hf/hub/models--o--n"),
    ("/hf/hub/models--o--n/snapshots/abc/", "/hf/hub/models--o--n"),
    ("/models--o--n/snapshots/abc/unet", "/models--o--n"),
    ("/models/sd/snapshots/abc", "/models/sd/snapshots/abc"),
    ("/hf/hub/models--o--n", "/hf/hub/models--o--n"),
])  # fmt: skip
def test_a_snapshot_is_mounted_with_the_blobs_that_it_links_to(model: str, mounted: str) -> None:
    (mount,) = container_spec(with_model(model), HOST)["HostConfig"]["Mounts"]
    assert (mount["Source"], mount["Target"], mount["ReadOnly"]) == (mounted, mounted, True)


def test_a_model_folder_is_mounted_where_it_is_and_read_only() -> None:
    spec = container_spec(with_model("/data/sd14"), HOST)
    assert spec["HostConfig"]["Mounts"] == [
        {"Type": "bind", "Source": "/data/sd14", "Target": "/data/sd14", "ReadOnly": True}
    ]
    assert spec["HostConfig"]["NetworkMode"] == "none"


def test_a_cache_of_compiled_kernels_is_writable_and_apart_for_each_image() -> None:
    host = HOST.model_copy(update={"cache": "/data/compiled"})
    spec = container_spec(replace(TASK, image="sd-orchestrator/cuda:123@sha256:abc"), host)
    assert spec["HostConfig"]["Mounts"] == [{"Type": "bind", "Source": "/data/compiled", "Target": "/compiled"}]
    assert {"TORCHINDUCTOR_CACHE_DIR=/compiled/123/inductor", "TRITON_CACHE_DIR=/compiled/123/triton"} < set(
        spec["Env"]
    )
    assert "TORCH_EXTENSIONS_DIR=/compiled/123/extensions" in spec["Env"]
    assert "RUNNER_REFERENCES=/compiled/123/references" in spec["Env"]


@pytest.mark.parametrize("model", ["./sd14", "../sd14", "~/sd14"])
def test_a_folder_relative_to_this_machine_is_refused_for_a_docker_host(model: str) -> None:
    with pytest.raises(StartError, match="absolute path"):
        container_spec(with_model(model), HOST)


def test_memory_is_limited_without_swap_beside_it() -> None:
    limits = container_spec(TASK, HOST.model_copy(update={"memory": "16g"}))["HostConfig"]
    assert (limits["Memory"], limits["MemorySwap"]) == (16 * 2**30, 16 * 2**30)


def test_gpus_are_given_as_the_host_hands_them_out() -> None:
    task = replace(TASK, slot=Slot("gpu0", ("0",)))
    spec = container_spec(task, HOST, Access("devices", ("/dev/nvidiactl",), "/usr/local/nvidia"))
    assert [device["PathOnHost"] for device in spec["HostConfig"]["Devices"]] == ["/dev/nvidia0", "/dev/nvidiactl"]
    assert "LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/usr/local/nvidia/lib" in spec["Env"]
    assert spec["HostConfig"]["Mounts"][0]["ReadOnly"]


def test_an_engine_without_docker_init_is_not_asked_for_it() -> None:
    assert container_spec(TASK, HOST, init=False)["HostConfig"]["Init"] is False


def test_an_image_whose_id_is_known_is_taken_by_it() -> None:
    task = replace(TASK, image="sd-orchestrator/cpu:123@sha256:abc")
    assert container_spec(task, HOST)["Image"] == "sha256:abc"


def test_no_prompt_stands_in_what_inspect_shows() -> None:
    assert "a photo" not in str(container_spec(TASK, HOST))


def test_an_attempt_is_known_again_by_its_labels() -> None:
    assert attempt_of(labels(TASK, HOST)) == TASK.attempt


@pytest.mark.parametrize(
    "change",
    [
        *({"sd-orchestrator.attempt": number} for number in ("two", "", "0", "-1", "01", "1_0", "\u0661", "9" * 4000)),
        *({"sd-orchestrator.job": name} for name in ("", "/../shop-db", "a/b", "a\0", "a\n", "..", "a" * 65)),
        *({"sd-orchestrator.run": name} for name in ("", "../x", "r?v=1", "a\0", "r\n", ".", "r%2f", "r" * 129)),
    ],
)
def test_labels_that_name_no_attempt_are_none(change: dict[str, str]) -> None:
    assert attempt_of({**labels(TASK, HOST), **change}) is None
    assert attempt_of({}) is None


@pytest.mark.parametrize(
    ("word", "state"),
    [("created", State.STAGED), ("running", State.RUNNING), ("paused", State.RUNNING), ("exited", State.EXITED)],
)
def test_a_state_of_the_engine_is_one_of_ours(word: str, state: State) -> None:
    assert observation(word, {}).state is state


@pytest.mark.parametrize("word", ["dead", "removing", "", "something new"])
def test_a_state_that_is_not_known_is_lost_and_never_done(word: str) -> None:
    seen = observation(word, {})
    assert seen.state is State.LOST
    assert repr(word) in seen.reason


def test_a_parent_that_survives_its_childs_end_by_memory_is_told_apart_from_success() -> None:
    seen = observation("exited", labels(TASK, HOST), {"ExitCode": 0, "OOMKilled": True, "Error": ""})
    assert seen == Observation(State.EXITED, "cpu", 0, True, "the kernel ended a process of it: out of memory")


@pytest.mark.parametrize(
    ("text", "size"), [("512m", 512 * 2**20), ("1.5g", 3 * 2**29), ("16gib", 2**34), ("64kb", 2**16)]
)
def test_sizes_are_powers_of_1024(text: str, size: int) -> None:
    assert size_bytes(text) == size


@pytest.mark.parametrize(("model", "weights", "expected"), [
    ("synthetic:tiny", None, False), ("/data/sd14", None, False), ("org/name", None, True), ("org/name", "/w", False),
    ("./sd14", None, False), ("~/sd14", None, False),
])  # fmt: skip
def test_the_network_is_for_downloads_alone(model: str, weights: str | None, expected: bool) -> None:
    assert needs_download(model, HOST.model_copy(update={"weights": weights})) is expected


@pytest.mark.parametrize(
    ("status", "seconds"),
    [
        ("Up Less than a second", 1.0),
        ("Up 1 second", 1.0),
        ("Up 45 seconds (healthy)", 45.0),
        ("Up About a minute", 60.0),
        ("Up 7 minutes", 420.0),
        ("Up About an hour", 3600.0),
        ("Up 3 days", 259200.0),
        ("Exited (0) 2 minutes ago", None),
        ("Up \u0663 minutes", None),
        (None, None),
    ],
)
def test_how_long_a_container_is_up_is_read_off_the_engines_list(status: str | None, seconds: float | None) -> None:
    assert up_s(status) == seconds
