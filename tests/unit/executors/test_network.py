"""What jobs are told of the network: Docker's proxies, a host's `env`, a company's authorities; and to whom not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_docker_spec import HOST, JOB, TASK

from orchestrator.config import S3, Collect, DockerHost, KubernetesHost, ProcessHost, load_hosts
from orchestrator.errors import InputError
from orchestrator.executors.docker.container import container_spec
from orchestrator.executors.kubernetes.manifest import job_manifest
from orchestrator.executors.network import CA_BUNDLE, without_logins
from orchestrator.executors.process.machine import job_environment
from orchestrator.hosts.access import network_of

DOWNLOADS = replace(TASK, job=replace(JOB, model="owner/name"))
LOADS = replace(TASK, job=replace(JOB, model="synthetic:tiny"))
PROXY = {"HTTPS_PROXY": "http://p:1", "https_proxy": "http://p:1"}


def proxies(home: Path, **given: Any) -> Path:
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(json.dumps({"proxies": given}))
    return home


def env_of(spec: dict[str, Any]) -> dict[str, str]:
    return dict(one.split("=", 1) for one in spec["Env"])


def inventory(folder: Path, fields: str) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(f"hosts:\n  far: {{kind: docker, {fields}}}\n")
    return path


def test_a_containers_proxies_are_dockers_and_the_hosts_own_go_first(tmp_path: Path) -> None:
    home = proxies(tmp_path, default={"httpProxy": "http://a:1", "httpsProxy": "http://b:1"})
    host = DockerHost(name="far", url="unix:///d.sock", env={"HTTPS_PROXY": "http://c:1", "HF_ENDPOINT": "https://hub"})
    found = network_of(host, {}, home)
    assert found["http_proxy"] == found["HTTP_PROXY"] == "http://a:1"
    assert found["https_proxy"] == found["HTTPS_PROXY"] == "http://c:1"
    assert found["HF_ENDPOINT"] == "https://hub"


def test_proxies_for_one_engine_are_found_by_its_address(tmp_path: Path) -> None:
    home = proxies(tmp_path, **{"ssh://me@far": {"httpProxy": "http://far:1"}, "default": {"httpProxy": "http://a:1"}})
    assert network_of(DockerHost(name="far", url="ssh://me@far"), {}, home)["http_proxy"] == "http://far:1"
    assert network_of(DockerHost(name="near", url="unix:///d.sock"), {}, home)["http_proxy"] == "http://a:1"


def test_only_a_container_that_uses_the_network_gets_proxies_and_authorities() -> None:
    host = HOST.model_copy(update={"ca_bundle": "/etc/corp.pem"})
    delivers = host.model_copy(update={"collect": Collect(s3=S3(bucket="bench"))})
    for spec in (container_spec(DOWNLOADS, host, network=PROXY), container_spec(LOADS, delivers, network=PROXY)):
        assert env_of(spec)["https_proxy"] == "http://p:1"
        assert env_of(spec)["SSL_CERT_FILE"] == env_of(spec)["REQUESTS_CA_BUNDLE"] == CA_BUNDLE
        mount = {"Type": "bind", "Source": "/etc/corp.pem", "Target": CA_BUNDLE, "ReadOnly": True}
        assert mount in spec["HostConfig"]["Mounts"]
    offline = container_spec(LOADS, host, network=PROXY)
    assert offline["HostConfig"]["NetworkMode"] == "none"
    assert not {"https_proxy", "SSL_CERT_FILE"} & env_of(offline).keys()
    assert offline["HostConfig"]["Mounts"] == []


def test_a_pod_that_downloads_gets_them_and_no_other() -> None:
    host = KubernetesHost(name="lab", gpus="none", ca_bundle="/etc/corp.pem")

    def env(task: Any) -> set[str]:
        pod = job_manifest(task, host, PROXY)["spec"]["template"]["spec"]
        return {one["name"] for one in pod["containers"][0]["env"]}

    assert {"https_proxy", "SSL_CERT_FILE"} <= env(DOWNLOADS)
    assert not {"https_proxy", "SSL_CERT_FILE"} & env(LOADS)


def test_a_process_gets_its_hosts_variables_over_ours(tmp_path: Path) -> None:
    host = ProcessHost(name="here", env={"NO_PROXY": "corp"}, ca_bundle="/etc/corp.pem")
    found = job_environment({"no_proxy": "x", "PATH": "/bin"}, host, (), None, tmp_path)
    assert found["no_proxy"] == found["NO_PROXY"] == "corp"
    assert found["SSL_CERT_FILE"] == "/etc/corp.pem"


def test_a_variable_without_a_value_is_taken_from_our_environment_or_is_an_error(tmp_path: Path) -> None:
    host = load_hosts(inventory(tmp_path, "url: 'unix:///d.sock', env: {https_proxy: , HF_ENDPOINT: }"))["far"]
    with pytest.raises(InputError, match=r"far: env takes HF_ENDPOINT.*export HF_ENDPOINT"):
        network_of(host, {"https_proxy": "http://me:pw@p:1"}, tmp_path)
    found = network_of(host, {"https_proxy": "http://me:pw@p:1", "HF_ENDPOINT": "https://hub"}, tmp_path)
    assert found["HTTPS_PROXY"] == "http://me:pw@p:1"
    assert "pw" not in str(host)


@pytest.mark.parametrize(
    ("env", "said"),
    [
        ("{HTTP_PROXY: 'http://me:pa55@p:1'}", "hold no password"),
        ("{HF_ENDPOINT: 'https://pa55@hub'}", "hold no password"),
        ("{HF_TOKEN: pa55}", "must not set 'HF_TOKEN'"),
        ("{LD_PRELOAD: /x}", "must not set 'LD_PRELOAD'"),
        ("{HF_HOME: /x}", "must not set 'HF_HOME'"),
        ("{http_proxy: 'http://a:1', HTTP_PROXY: 'http://b:1'}", "twice"),
        ('{NO_PROXY: "a\\nb"}', "one line"),
        ("[HTTP_PROXY]", "must be keys and values"),
    ],
)
def test_what_env_may_not_hold_is_refused_without_being_repeated(tmp_path: Path, env: object, said: str) -> None:
    with pytest.raises(InputError, match=said) as caught:
        load_hosts(inventory(tmp_path, f"env: {env}"))
    assert "hosts.yaml:2" in str(caught.value)
    assert "pa55" not in str(caught.value)


def test_a_login_in_an_address_is_masked_where_a_spec_is_shown() -> None:
    shown = without_logins({"Env": ["http_proxy=http://me:pa55@p:1", "NO_PROXY=a@b"], "n": 1})
    assert shown == {"Env": ["http_proxy=http://***@p:1", "NO_PROXY=a@b"], "n": 1}
