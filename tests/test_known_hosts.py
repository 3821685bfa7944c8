"""Hosts that are given by address, or that ssh and docker know; and files that are given in each other's place."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from orchestrator import config
from orchestrator.config import DockerHost
from orchestrator.config.known import docker_contexts, lines_for, name_of, ssh_hosts
from orchestrator.config.problems import nearest
from orchestrator.errors import InputError


def inventory(folder: Path, text: str) -> Path:
    (folder / "hosts.yaml").write_text(text)
    return folder / "hosts.yaml"


def chosen(path: Path | None, *names: str) -> tuple[config.Host, ...]:
    return config.select(config.load_hosts(path, names), names)


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
def test_an_address_in_hosts_is_a_docker_host_without_an_inventory(address, name, fields):
    assert chosen(None, address) == (DockerHost(name=name, **fields),)


def test_addresses_and_names_of_the_inventory_go_together_with_its_defaults(tmp_path):
    path = inventory(tmp_path, "hosts: {a: {kind: process}}\ndefaults: {threads: 3}\n")
    found = chosen(path, "ssh://me@far", "a")
    assert [(host.name, host.threads) for host in found] == [("far", 3), ("a", 3)]


def test_an_address_that_the_inventory_has_is_that_host_and_no_other_of_its_name(tmp_path):
    path = inventory(tmp_path, "hosts: {far: {kind: docker, url: 'ssh://me@far', shm: 2g}}\n")
    assert chosen(path, "ssh://me@far")[0].shm == "2g"
    with pytest.raises(InputError, match=r"hosts.yaml:1: host 'far' is another one.*--hosts far"):
        chosen(path, "ssh://you@far")


def test_a_run_keeps_the_hosts_that_were_given_by_address(tmp_path):
    text = "hosts: {a: {kind: process}}\ndefaults: {threads: 3}\n"
    names = ("ssh://me@far:22", "a")
    kept = inventory(tmp_path, config.with_addresses(text, names))
    assert config.select(config.load_hosts(kept), ("far-22", "a")) == chosen(inventory(tmp_path, text), *names)
    assert config.with_addresses(text, ("a",)) == text


@pytest.mark.parametrize("address", ["ssh://", "ftp://x", "tcp://far", "ssh://me:pa55@far", "docker://"])
def test_an_address_that_cannot_be_used_is_one_message(address):
    with pytest.raises(InputError, match="--hosts") as caught:
        chosen(None, address)
    assert "pa55" not in str(caught.value)


def test_names_of_ssh_are_those_of_host_lines_and_includes_without_patterns(tmp_path):
    (tmp_path / "config").write_text(
        'Include conf.d/* missing\nHost gpu1 "gpu 2" *.corp !x\n  HostName 10.0.0.1\nhost=rack\n'
    )
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d/more").write_text(f"Host far\nInclude {tmp_path}/config\nMatch host y\n")
    assert ssh_hosts(tmp_path / "config") == {"gpu1", "gpu 2", "rack", "far"}
    assert ssh_hosts(tmp_path / "none") == set()


def test_a_name_that_ssh_or_docker_knows_is_offered_with_the_lines_to_add(tmp_path, monkeypatch):
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


def test_an_inventory_and_a_matrix_in_each_others_place_are_named(tmp_path):
    hosts = inventory(tmp_path, "hosts: {a: {kind: process}}\n")
    with pytest.raises(InputError, match=r"hosts.yaml:1: this is an inventory.*--inventory"):
        config.load_matrix(hosts)
    with pytest.raises(InputError, match=r"hosts.yaml:1: this is a matrix.*inventory"):
        config.load_hosts(inventory(tmp_path, "model: x\nmatrix: {engine: [eager]}\n"))


def test_what_people_write_for_gpus_is_understood():
    assert nearest("gpu", ["price_per_hour", "gpus", "gpus_per_job"]) == "; did you mean 'gpus'?"
    assert nearest("gpu", ["cpu", "cuda", "deepspeed"]) == "; did you mean 'cuda'?"


def test_a_name_made_of_an_address_is_always_a_name():
    for address in ("unix:///", "ssh://", "docker://-._", "tcp://" + "a" * 100):
        assert name_of(address)
        assert len(name_of(address)) <= 63
