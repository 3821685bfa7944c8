"""`plan -o yaml`: what a run would create in a cluster, for kubectl and for whoever reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from commands import orchestrate, write
from kustomize import VERSIONS

from orchestrator.terminal.output import print_yaml

MATRIX = "model: owner/gated\nmatrix: {samples: [1, 2], engine: [eager, onnxruntime]}\n"
HOSTS: dict[str, Any] = {
    "lab": {"kind": "kubernetes", "gpus": "none", "namespace": "bench", "images": {"cpu": "registry.example/sd:1"}},
    "workstation": {"kind": "process"},
}


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    write(json.dumps({"hosts": HOSTS}), "hosts.yaml")
    assert orchestrate("plan", write(MATRIX), "-o", "yaml", *words) == 0
    return list(yaml.safe_load_all(capsys.readouterr().out))


def test_every_object_of_a_cluster_is_there_and_fits_the_newest_version(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = planned(capsys)
    assert [it["kind"] for it in found] == ["ConfigMap", "Secret", "Job"] * 2
    for each in found:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
        assert each["metadata"]["namespace"] == "bench"
    for config, secret, job in (found[:3], found[3:]):
        names = {it["metadata"]["name"] for it in (config, secret, job)}
        assert len(names) == 1
        mounted = [it for it in job["spec"]["template"]["spec"]["volumes"] if "secret" in it]
        assert {it["secret"]["secretName"] for it in mounted} == names
        assert json.loads(config["data"]["manifest.json"])["spec"] == job["spec"]


def test_no_secret_has_a_value(here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_told")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pa55@proxy:1")
    monkeypatch.setitem(HOSTS["lab"], "env", {"HTTPS_PROXY": None})
    found = planned(capsys)
    assert {value for it in found if it["kind"] == "Secret" for value in it["stringData"].values()} == {""}
    assert "hf_told" not in json.dumps(found)
    assert "pa55" not in json.dumps(found)
    assert "http://***@proxy:1" in json.dumps(found)


def test_a_run_without_a_cluster_has_nothing_to_show(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(json.dumps({"hosts": HOSTS}), "hosts.yaml")
    assert orchestrate("plan", write(MATRIX), "-o", "yaml", "--hosts", "workstation") == 2
    assert "no job runs on a Kubernetes host; hosts: workstation" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("-o", "yaml"), ("--containers",)])
def test_a_model_that_no_node_can_know_is_an_error_in_words(
    here: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    (here / "own").mkdir()
    write(json.dumps({"hosts": HOSTS}), "hosts.yaml")
    assert orchestrate("plan", write("model: ./own\nmatrix: {samples: [1]}\n"), "--hosts", "lab", *words) == 2
    assert "on the cluster lab a folder must be an absolute path of its nodes" in capsys.readouterr().err


@pytest.mark.parametrize(
    "text", ["12345678e901", "1e3", "0x1f", "0o17", "017", "1_000", ".5", "-1", "+1", "yes", "null", "~", "1:30"]
)
def test_text_that_another_reader_takes_for_a_number_is_quoted(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    print_yaml([{"value": text}])
    said = capsys.readouterr().out
    assert said.splitlines()[1] in (f'value: "{text}"', f"value: '{text}'")
