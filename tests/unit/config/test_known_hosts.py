"""Hosts that are given by address, or that ssh and docker know; and files that are given in each other's place."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

import pytest

from orchestrator import config
from orchestrator.config import DockerHost, Host, Point
from orchestrator.config.known import docker_contexts, lines_for, name_of, ssh_hosts
from orchestrator.config.problems import nearest
from orchestrator.errors import InputError
from runner.catalog import ENGINES, PRECISIONS


def inventory(folder: Path, text: str) -> Path:
    (folder / "hosts.yaml").write_text(text)
    return folder / "hosts.yaml"


def chosen(path: Path | None, *names: str) -> tuple[config.Host, ...]:
    return config.select(config.load_hosts(path, names), names)


def docker(host: Host) -> DockerHost:
    assert isinstance(host, DockerHost)
    return host


@pytest.mark.parametrize(
    ("address", "name", "fields"),
    [
        ("ssh://ubuntu@gpu1", "gpu1", {"url": "ssh://ubuntu@gpu1"}),
        ("ssh://ubuntu@gpu1:2222/run/d.sock", "gpu1-2222", {"url": "ssh://ubuntu@gpu1:2222/run/d.sock"}),
        ("unix:///run/my/docker.sock", "run-my-docker.sock", {"url": "unix:///run/my/docker.sock"}),
        ("tcp://[::1]:2375", "1-2375", {"url": "tcp://[::1]:2375"}),
        ("docker://lab", "lab", {"context": "lab"}),
    ],
)
def test_an_address_in_hosts_is_a_docker_host_without_an_inventory(
    address: str, name: str, fields: dict[str, str]
) -> None:
    assert chosen(None, address) == (DockerHost.model_validate({"name": name, **fields}),)


def test_addresses_and_names_of_the_inventory_go_together_with_its_defaults(tmp_path: Path) -> None:
    path = inventory(tmp_path, "hosts: {a: {kind: process}}\ndefaults: {threads: 3}\n")
    found = chosen(path, "ssh://me@far", "a")
    assert [(host.name, host.threads) for host in found] == [("far", 3), ("a", 3)]


def test_an_address_that_the_inventory_has_is_that_host_and_no_other_of_its_name(tmp_path: Path) -> None:
    path = inventory(tmp_path, "hosts: {far: {kind: docker, url: 'ssh://me@far', shm: 2g}}\n")
    assert docker(chosen(path, "ssh://me@far")[0]).shm == "2g"
    with pytest.raises(InputError, match=r"hosts.yaml:1: host 'far' is another one.*--hosts far"):
        chosen(path, "ssh://you@far")


def test_a_run_keeps_the_hosts_that_were_given_by_address(tmp_path: Path) -> None:
    text = "hosts: {a: {kind: process}}\ndefaults: {threads: 3}\n"
    names = ("ssh://me@far:22", "a")
    kept = inventory(tmp_path, config.by_itself(text, names, tmp_path))
    assert config.select(config.load_hosts(kept), ("far-22", "a")) == chosen(inventory(tmp_path, text), *names)
    assert config.by_itself(text, ("a",), tmp_path) == text


def test_two_users_of_one_machine_are_two_hosts() -> None:
    addresses = ("ssh://a@gpu1", "ssh://b@gpu1", "docker://gpu1")
    assert [host.name for host in chosen(None, *addresses)] == ["gpu1", "ssh-b-gpu1", "docker-gpu1"]


def test_an_address_never_means_a_host_of_its_name_on_another_address(tmp_path: Path) -> None:
    kept = inventory(tmp_path, config.by_itself("hosts: {}\n", ("ssh://a@gpu1", "ssh://b@gpu1"), tmp_path))
    hosts = config.load_hosts(kept)
    assert [host.name for host in config.select(hosts, ("ssh://b@gpu1",))] == ["ssh-b-gpu1"]
    with pytest.raises(InputError, match="host 'ssh://c@gpu1' is not in the inventory"):
        config.select(hosts, ("ssh://c@gpu1",))


def test_two_addresses_that_cannot_be_told_apart_by_name_are_refused() -> None:
    far = "tcp://127.0.0.1:2375/" + "a" * 80
    with pytest.raises(InputError, match=r"would be called .*; fix: write both to hosts.yaml"):
        chosen(None, far + "1", far + "2", far + "3")


def test_tcp_in_hosts_is_told_to_be_written_to_the_inventory(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        chosen(None, "tcp://10.0.0.5:2376")
    (said,) = caught.value.problems
    assert said.startswith("--hosts tcp://10.0.0.5:2376: is without TLS")
    lines = said.partition("write to hosts.yaml:\n")[2].rpartition("\n")[0]
    assert "--hosts 10.0.0.5-2376 and" in said
    host = docker(chosen(inventory(tmp_path, lines), "10.0.0.5-2376")[0])
    assert (host.url, host.tls and host.tls.ca) == ("tcp://10.0.0.5:2376", "ca.pem")
    open_ = inventory(tmp_path, "defaults: {insecure: true}\nhosts: {}\n")
    assert docker(chosen(open_, "tcp://10.0.0.5:2376")[0]).insecure


@pytest.mark.parametrize("address", ["ssh://", "ftp://x", "tcp://far", "ssh://me:pa55@far", "docker://"])
def test_an_address_that_cannot_be_used_is_one_message(address: str) -> None:
    with pytest.raises(InputError, match="--hosts") as caught:
        chosen(None, address)
    assert "pa55" not in str(caught.value)


def test_names_of_ssh_are_those_of_host_lines_and_includes_without_patterns(tmp_path: Path) -> None:
    (tmp_path / "config").write_text(
        'Include conf.d/* missing\nHost gpu1 "gpu 2" *.corp !x\n  HostName 10.0.0.1\nhost=rack\n'
    )
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/more").write_text(f"Host far\nInclude {tmp_path}/config\nMatch host y\n")
    assert ssh_hosts(tmp_path / "config") == {"gpu1", "gpu 2", "rack", "far"}
    assert ssh_hosts(tmp_path / "none") == set()


def test_a_name_that_ssh_or_docker_knows_is_offered_with_the_lines_to_add(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh/config").write_text("Host gpu1\n")
    meta = tmp_path / ".docker/contexts/meta/x"
    meta.mkdir(parents=True)
    (meta / "meta.json").write_text(json.dumps({"Name": "lab"}))
    assert docker_contexts(tmp_path / ".docker") == ("default", "lab")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONFIG", raising=False)
    with pytest.raises(InputError) as caught:
        chosen(None, "gpu1", "lab", "gpu2")
    ssh, context, neither = caught.value.problems
    assert "--hosts ssh://gpu1" in ssh
    assert ssh.endswith("\n  hosts:\n    gpu1: {kind: docker, url: ssh://gpu1}")
    assert context.endswith("\n  hosts:\n    lab: {kind: docker, context: lab}")
    assert "kind:" not in neither
    assert lines_for("gpu*", tmp_path, {}) == ""


def test_an_inventory_and_a_matrix_in_each_others_place_are_named(tmp_path: Path) -> None:
    hosts = inventory(tmp_path, "hosts: {a: {kind: process}}\n")
    with pytest.raises(InputError, match=r"hosts.yaml:1: this is an inventory.*fix: .*--inventory"):
        config.load_matrix(hosts)
    with pytest.raises(InputError, match=r"hosts.yaml:1: this is a matrix.*inventory.*fix: give the inventory here"):
        config.load_hosts(inventory(tmp_path, "model: x\nmatrix: {engine: [eager]}\n"))


def test_what_people_write_for_gpus_is_understood() -> None:
    assert nearest("gpu", ["price_per_hour", "gpus", "gpus_per_job"]) == "; did you mean 'gpus'?"
    assert nearest("gpu", ["cpu", "cuda", "deepspeed"]) == "; did you mean 'cuda'?"


@pytest.mark.parametrize(
    ("known", "word", "meant"),
    [
        (PRECISIONS, "fp32", "single"),
        (PRECISIONS, "float32", "single"),
        (PRECISIONS, "FP16", "half"),
        (PRECISIONS, "float16", "half"),
        (PRECISIONS, "bf16", "bfloat16"),
        (PRECISIONS, "fp8_e4m3", "fp8"),
        (PRECISIONS, "w8a8", "int8"),
        (PRECISIONS, "int8wo", "int8-weight"),
        (ENGINES, "torch", "eager"),
        (ENGINES, "torch.compile", "compile"),
        (ENGINES, "ort", "onnxruntime"),
        (ENGINES, "cudagraphs", "graph"),
        (Point.model_fields, "dtype", "precision"),
        (Point.model_fields, "batch_size", "samples"),
        (Point.model_fields, "num_inference_steps", "steps"),
        (Point.model_fields, "guidance_scale", "guidance"),
    ],
)
def test_the_words_of_other_tools_are_understood(known: Iterable[str], word: str, meant: str) -> None:
    assert nearest(word, known) == f"; did you mean {meant!r}?"


@pytest.mark.parametrize(
    ("address", "name"),
    [("ssh://…", "ssh"), ("unix://", "var-run-docker.sock"), ("tcp://:2375", "2375"), ("ssh://me@gpu1", "gpu1")],
)
def test_a_host_that_is_given_by_address_has_no_name_but_its_own(address: str, name: str) -> None:
    assert name_of(address) == name


def test_an_address_that_is_wrong_is_shown_as_it_was_given() -> None:
    with pytest.raises(InputError, match=r"^--hosts ssh://…: url 'ssh://…' holds '…'"):
        chosen(None, "ssh://…")


def test_a_name_made_of_an_address_is_always_a_name() -> None:
    for address in ("unix:///", "ssh://", "docker://-._", "tcp://" + "a" * 100):
        assert name_of(address)
        assert len(name_of(address)) <= 63
