from __future__ import annotations

import json

import pytest

from orchestrator.config import DockerHost
from orchestrator.errors import HostUnfit
from orchestrator.executors.contract import Slot
from orchestrator.executors.docker.gpu_access import (
    NO_GPU,
    SHARED_NODES,
    Access,
    GpuEvidence,
    GpuParts,
    as_named,
    candidates,
    everything,
    no_access,
    plain_cdi,
    trusted,
)
from orchestrator.executors.gpus import Gpu, chosen, parse_probe, slots_of

TWO = (Gpu("0", "GPU-aa", "A100", 80), Gpu("1", "GPU-bb", "A100", 80))
DEVICES = GpuEvidence(nodes=(0, 1), shared=SHARED_NODES, driver=True)


def host(**fields: object) -> DockerHost:
    return DockerHost(name="desk", **fields)  # type: ignore[arg-type]


def test_the_toolkit_is_asked_for_exactly_the_slots_gpus() -> None:
    (request,) = Access("toolkit").render(("1", "GPU-aa")).requests
    assert request == {"DeviceIDs": ["1", "GPU-aa"], "Capabilities": [["gpu", "compute", "utility"]]}


def test_cdi_devices_are_named_with_their_kind_and_nothing_else() -> None:
    (request,) = Access("cdi").render(("0", "1")).requests
    assert request == {"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=0", "nvidia.com/gpu=1"]}


def test_device_nodes_come_with_the_shared_ones_and_the_drivers_libraries() -> None:
    parts = Access("devices", SHARED_NODES, "/usr/local/nvidia").render(("1",))
    assert [device["PathOnHost"] for device in parts.devices] == ["/dev/nvidia1", *SHARED_NODES]
    assert parts.environment == {"LD_LIBRARY_PATH": "/usr/local/nvidia/lib64:/usr/local/nvidia/lib"}
    assert [mount["Source"] for mount in parts.mounts] == ["/usr/local/nvidia"]


@pytest.mark.parametrize("access", [Access("toolkit"), Access("cdi"), Access("devices", SHARED_NODES), NO_GPU])
def test_the_cpus_slot_is_given_no_gpu_by_any_way(access: Access) -> None:
    parts = access.render(())
    assert parts == GpuParts()


@pytest.mark.parametrize(
    ("seen", "kinds"),
    [
        (GpuEvidence(runtime=True), ["toolkit"]),
        (GpuEvidence(runtime=True, cdi=("0",), nodes=(0,)), ["toolkit", "cdi"]),
        (GpuEvidence(cdi=("0",)), ["cdi"]),
        (DEVICES, ["toolkit", "devices"]),
        (GpuEvidence(nodes=(0,)), ["toolkit"]),
    ],
)
def test_auto_tries_what_the_host_shows_and_bare_nodes_only_with_a_driver_beside_them(
    seen: GpuEvidence, kinds: list[str]
) -> None:
    assert [access.kind for access in candidates(host(), seen)] == kinds


def test_bare_nodes_are_taken_without_a_driver_where_they_are_asked_for() -> None:
    assert candidates(host(gpu_access="devices"), GpuEvidence(nodes=(0,))) == (Access("devices"),)


@pytest.mark.parametrize("access", ["auto", "toolkit", "cdi", "devices"])
def test_a_host_without_any_gpu_is_unfit_with_the_remedy(access: str) -> None:
    with pytest.raises(HostUnfit, match=r"desk: .*nvidia-ct.*gpus: none"):
        candidates(host(gpu_access=access), GpuEvidence())


def test_a_gpu_that_the_engine_cannot_hand_out_is_told_from_none() -> None:
    assert "it has a GPU" in no_access(host(), GpuEvidence(nodes=(0,)))
    assert "no NVIDIA GPU is visible" in no_access(host(), GpuEvidence())


def test_a_probes_report_is_read_from_its_last_line() -> None:
    gpu = {"index": 0, "uuid": "GPU-aa", "name": "A100", "memory_bytes": 80, "mig": []}
    assert parse_probe("a library's greeting\n" + json.dumps({"gpus": [gpu]})) == TWO[:1]


def test_a_divided_gpu_is_its_instances() -> None:
    gpu = {"index": 0, "uuid": "GPU-aa", "mig": [{"uuid": "MIG-1", "name": "1g", "memory_bytes": 5}]}
    assert parse_probe(json.dumps({"gpus": [gpu]})) == (Gpu("MIG-1", "MIG-1", "1g", 5),)


@pytest.mark.parametrize("output", ["", "no json", "[]", "{}", '{"gpus": null}'])
def test_a_probe_that_says_nothing_is_an_error_and_not_a_host_without_gpus(output: str) -> None:
    with pytest.raises(ValueError, match=r"probe|JSON|Expecting"):
        parse_probe(output)


def test_a_container_without_a_gpu_says_why() -> None:
    with pytest.raises(ValueError, match="Driver Not Loaded"):
        parse_probe(json.dumps({"gpus": [], "gpus_error": "Driver Not Loaded"}))


def test_a_probe_sees_every_gpu_by_each_way() -> None:
    assert everything(Access("toolkit"), DEVICES) == ("all",)
    assert everything(Access("devices"), DEVICES) == ("0", "1")


def test_a_gpu_is_named_by_its_device_node_where_those_are_handed_out() -> None:
    seen = GpuEvidence(nodes=(2, 5), shared=SHARED_NODES)
    assert [gpu.id for gpu in as_named(Access("devices"), seen, TWO)] == ["2", "5"]


def test_a_gpu_is_named_as_its_cdi_device_is_by_index_or_uuid() -> None:
    assert [g.id for g in as_named(Access("cdi"), GpuEvidence(cdi=("all", "0", "1")), TWO)] == ["0", "1"]
    assert [g.id for g in as_named(Access("cdi"), GpuEvidence(cdi=("all", "GPU-aa", "GPU-bb")), TWO)] == [
        "GPU-aa",
        "GPU-bb",
    ]
    with pytest.raises(ValueError, match="GPU-aa"):
        as_named(Access("cdi"), GpuEvidence(cdi=("all",)), TWO)


def test_a_mig_instance_is_no_device_node() -> None:
    with pytest.raises(ValueError, match="toolkit"):
        as_named(Access("devices"), DEVICES, (Gpu("MIG-1", "MIG-1"),))


def test_gpus_are_picked_by_index_or_uuid_in_the_order_given() -> None:
    assert chosen(host(gpus=("GPU-bb", 0)), TWO) == (TWO[1], TWO[0])
    assert chosen(host(gpus="all"), TWO) == TWO


def test_a_gpu_that_is_not_there_is_named_beside_those_that_are() -> None:
    with pytest.raises(HostUnfit, match=r"no GPU 7, GPU-zz; it has: 0 \(GPU-aa\), 1 \(GPU-bb\)"):
        chosen(host(gpus=(0, 7, "GPU-zz")), TWO)


def test_one_gpu_under_two_names_is_refused() -> None:
    with pytest.raises(HostUnfit, match="twice"):
        chosen(host(gpus=(0, "GPU-aa")), TWO)


def test_each_gpu_is_a_slot() -> None:
    assert slots_of(host(), TWO) == (Slot("gpu0", ("0",)), Slot("gpu1", ("1",)))


def test_gpus_of_one_job_share_a_slot() -> None:
    assert slots_of(host(gpus_per_job=2), TWO) == (Slot("gpu0+1", ("0", "1")),)


def test_a_slot_is_known_by_every_name_of_its_gpus() -> None:
    (both,) = slots_of(host(gpus_per_job=2), TWO)
    (by_uuid,) = slots_of(host(), [Gpu("GPU-bb", "GPU-bb")])
    assert both.devices == {"0", "GPU-aa", "1", "GPU-bb"}
    assert both.devices & by_uuid.devices


def test_too_few_gpus_for_one_job_are_an_error() -> None:
    with pytest.raises(HostUnfit, match="gpus_per_job is 4, and it has 2"):
        slots_of(host(gpus_per_job=4), TWO)


def test_cdi_names_each_gpu_once() -> None:
    assert plain_cdi(("all", "1", "0", "GPU-aa", "GPU-bb")) == ("0", "1")
    assert plain_cdi(("all", "GPU-aa")) == ("GPU-aa",)


def test_without_a_probe_the_toolkits_gpus_are_not_known() -> None:
    assert trusted(host(), DEVICES, Access("toolkit")) is None
    assert trusted(host(), DEVICES, Access("devices")) == (Gpu("0"), Gpu("1"))
    assert trusted(host(), GpuEvidence(cdi=("all", "0")), Access("cdi")) == (Gpu("0"),)
