"""The rights in manifests/, on a real cluster: enough for whole runs, and none that is not used."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import engines
import pytest
import urllib3
import yaml
from builders import a_job, a_task
from clusters import LabCluster
from commands import PROGRAM

from orchestrator import cli
from orchestrator.commands.cancel import request_cancel
from orchestrator.config import KubernetesHost
from orchestrator.errors import ExitCode, InputError
from orchestrator.executors.contract import Slot
from orchestrator.executors.kubernetes import permissions
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.runs import folder as runs
from orchestrator.runs import joblog
from orchestrator.runs.journal import Journal
from runner.schema import Status

pytestmark = pytest.mark.kubernetes

NAMESPACE = "bench"
VERBS = {"GET": "get", "POST": "create", "PATCH": "patch", "PUT": "update", "DELETE": "delete"}
# What every account may do: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#discovery-roles
EVERYONES = {"selfsubjectaccessreviews", ""}
QUEUES = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "localqueues.kueue.x-k8s.io"},
    "spec": {
        "group": "kueue.x-k8s.io",
        "names": {"plural": "localqueues", "singular": "localqueue", "kind": "LocalQueue"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1beta2",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
            }
        ],
    },
}


def needed_right(method: str, url: str) -> tuple[str, str, str, bool] | None:
    """Verb, group, resource, whether of all namespaces: what RBAC asks of a request. None: of no resource."""
    parts = urlsplit(url)
    words = parts.path.strip("/").split("/")
    group, words = ("", words[2:]) if words[0] == "api" else (words[1] if len(words) > 1 else "", words[3:])
    everywhere = words[:1] != ["namespaces"]
    if not everywhere and len(words) > 2:
        words = words[2:]
    resource, name, sub = (*words, "", "", "")[:3]
    if resource in EVERYONES:
        return None
    verb = VERBS[method]
    if verb == "get" and not name:
        verb = "watch" if "watch" in parse_qs(parts.query) else "list"
    return verb, group, f"{resource}/{sub}" if sub else resource, everywhere


def test_a_request_is_known_by_what_rbac_asks_of_it() -> None:
    pods = "/api/v1/namespaces/bench/pods"
    assert needed_right("GET", f"{pods}?watch=1&labelSelector=a") == ("watch", "", "pods", False)
    assert needed_right("GET", f"{pods}/a/log?follow=true") == ("get", "", "pods/log", False)
    assert needed_right("GET", "/api/v1/pods") == ("list", "", "pods", True)
    assert needed_right("GET", "/api/v1/namespaces/bench") == ("get", "", "namespaces", False)
    assert needed_right("DELETE", "/apis/batch/v1/namespaces/bench/jobs/a") == ("delete", "batch", "jobs", False)
    assert needed_right("GET", "/version") is None
    assert needed_right("GET", "/apis/kueue.x-k8s.io") is None


@pytest.fixture
def account(kubernetes_cluster: LabCluster, tmp_path: Path) -> Iterator[LabCluster]:
    """Applies the manifests as an admin would, and from then on KUBECONFIG has the orchestrator's account alone."""
    cluster = kubernetes_cluster
    cluster.kubectl("apply", "-k", str(permissions.folder() / "overlays" / "gpu"))
    queues = tmp_path / "queues.json"
    queues.write_text(json.dumps(QUEUES))
    cluster.kubectl("apply", "-f", str(queues))
    queued = ("get", "localqueues.kueue.x-k8s.io", "-A", "-o", "json")  # `kubectl wait` fails before any condition
    engines.wait_until(lambda: "items" in cluster.kubectl(*queued, check=False), 240, "queues are not served")
    may = ("auth", "can-i", "create", "jobs", "-n", NAMESPACE, f"--as=system:serviceaccount:{NAMESPACE}:orchestrator")
    engines.wait_until(lambda: "yes" in cluster.kubectl(*may, check=False), 240, "the account has no rights")
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    token = cluster.kubectl("-n", NAMESPACE, "create", "token", "orchestrator").strip()
    config["users"] = [{"name": "admin", "user": {"token": token}}]
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(config))
    os.environ["KUBECONFIG"] = str(tmp_path / "kubeconfig")
    try:
        yield cluster
    finally:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        cluster.kubectl("delete", "namespace", NAMESPACE)
        cluster.kubectl("delete", "-k", str(permissions.folder() / "nodes"), "--ignore-not-found")
        cluster.kubectl("delete", "-f", str(queues))


@pytest.fixture
def requests(account: LabCluster, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str, int]]:
    """Every request that this process makes of the cluster: method, address, and the answer's status."""
    seen: list[tuple[str, str, int]] = []
    send = urllib3.connectionpool.HTTPConnectionPool.urlopen
    port = int(yaml.safe_load(account.kubeconfig.read_text())["clusters"][0]["cluster"]["server"].rpartition(":")[2])

    def recorded(pool: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        response = send(pool, method, url, *args, **options)
        if pool.port == port:
            seen.append((method, url, response.status))
        return response

    monkeypatch.setattr(urllib3.connectionpool.HTTPConnectionPool, "urlopen", recorded)
    return seen


def orchestrator(*words: str) -> int:
    """The command line, in this process; its exit code."""
    with pytest.raises(SystemExit) as end:
        cli.main(words)
    return int(end.value.code or 0)


HOSTS = """
hosts:
  cpu:
    kind: kubernetes
    namespace: bench
    service_account: bench-job
    gpus: none
    parallel: 2
    images: {cpu: "sd-orchestrator-contract:1"}
  all-there-is:
    kind: kubernetes
    namespace: bench
    service_account: bench-job
    queue: bench
    runtime_class: nvidia
    weights: {claim: huggingface}
    cache: {claim: compiled}
"""
MATRIX = "name: rights\nmodel: some/model\nprompt: {}\nsteps: 1\nmatrix: {{seed: [{}]}}\nretries: 0\n"
MATRIX += "rounds: 1\ntimeout: 10m\n"


def test_the_account_can_do_whole_runs_and_has_no_right_that_they_do_not_use(
    requests: list[tuple[str, str, int]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_TOKEN", "hf_of-nobody")
    Path("hosts.yaml").write_text(HOSTS)
    Path("short.yaml").write_text(MATRIX.format("token; say it is read", "1, 2"))
    Path("long.yaml").write_text(MATRIX.format("say it runs; no rows; sleep 600", "3"))
    assert orchestrator("hosts", "--check", "--hosts", "cpu") == 0
    capfd.readouterr()
    orchestrator("hosts", "--check", "--hosts", "all-there-is")
    said = " ".join(capfd.readouterr().out.split())
    assert re.search("weights .*there is no claim huggingface.* cache .*there is no claim compiled", said), said
    assert orchestrator("submit", "short.yaml", "--hosts", "cpu") == 0, capfd.readouterr().err
    with followed_and_cancelled():
        assert orchestrator("submit", "long.yaml", "--hosts", "cpu") == 1
    for run in runs.all_runs(runs.ROOT):
        assert orchestrator("resume", run.name) in (ExitCode.OK, ExitCode.SOME_FAILED)
        assert orchestrator("clean", run.name) == ExitCode.OK
    stage_again()
    refused = [(method, url) for method, url, status in requests if status == 403]
    assert refused == []
    used = {right for method, url, _ in requests if (right := needed_right(method, url))}
    granted = {(p.verb, p.group, p.resource, p.in_all_namespaces) for p in permissions.permissions()}
    assert used == granted


def stage_again() -> None:
    """As after a crash: what is staged is there, and is compared."""
    task = a_task(a_job(samples=(1,), host="cpu"), slot=Slot("1", exclusive_per_run=True), image="image:1")
    with closing(KubernetesExecutor(KubernetesHost(name="cpu", namespace=NAMESPACE, gpus="none"))) as executor:
        executor.stage(task)
        executor.stage(task)
        executor.remove(task.attempt)


@contextmanager
def followed_and_cancelled() -> Iterator[None]:
    """Follows the log of the job that is started meanwhile, and ends it once it has said something."""
    earlier = set(runs.all_runs(runs.ROOT))

    def act() -> None:
        engines.wait_until(lambda: bool(set(runs.all_runs(runs.ROOT)) - earlier), 240, "no run began")
        (run,) = set(runs.all_runs(runs.ROOT)) - earlier
        engines.wait_until(lambda: started(run), 240, "no job began")
        with closing(Journal.open(run.journal)) as journal:
            (progress,) = journal.states()
        next(joblog.lines(run, progress.job, follow=True))
        request_cancel(run, None)

    with ThreadPoolExecutor(1) as pool:
        acting = pool.submit(act)
        yield
        acting.result()


def started(run: runs.Run) -> bool:
    with suppress(InputError), closing(Journal.open(run.journal)) as journal:
        return any(progress.attempt for progress in journal.states())
    return False  # it is just being made


EVENTLESS = """
hosts:
  later:
    kind: kubernetes
    namespace: bench
    gpus: none
    node_selector: {sd-orchestrator/pool: later}
    images: {cpu: "sd-orchestrator-contract:1"}
  accountless:
    kind: kubernetes
    namespace: bench
    gpus: none
    service_account: later
    images: {cpu: "sd-orchestrator-contract:1"}
"""


def test_an_account_that_may_list_neither_events_nor_nodes_runs_all_and_is_told_what_it_is_not_told(
    account: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """One job waits for a node, of another the cluster makes no pod; an admin fixes both while they are waited for."""
    monkeypatch.chdir(tmp_path)
    Path("hosts.yaml").write_text(EVENTLESS)
    Path("matrix.yaml").write_text(MATRIX.format("rows", "1"))
    without_events_and_nodes(account)

    assert orchestrator("hosts", "--check", "--hosts", "later", "-o", "json") == ExitCode.OK
    findings = json.loads(capfd.readouterr().out)["later"]
    said = {it["text"].partition(",")[0] for it in findings if it["grade"] == "warning"}
    assert said == {"may not list events in bench", "may not list nodes in all namespaces"}

    with Path("said").open("w") as said_here:
        command = [sys.executable, PROGRAM, "submit", "matrix.yaml"]
        running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said_here)
    try:
        engines.wait_until(
            lambda: all(it in Path("said").read_text() for it in (NO_NODE, NO_POD)), 240, "not all is said"
        )
        account.kubectl("label", "node", account.nodes[0], "sd-orchestrator/pool=later")
        account.kubectl("-n", NAMESPACE, "create", "serviceaccount", "later")
        assert running.wait(300) == ExitCode.OK
    finally:
        running.kill()
        running.wait()
        account.kubectl("label", "node", account.nodes[0], "sd-orchestrator/pool-")
    (run,) = runs.all_runs(runs.ROOT)
    assert sorted((row.host, row.status) for row in run.all_rows()) == [
        ("accountless", Status.OK),
        ("later", Status.OK),
    ]
    told = Path("said").read_text()
    assert "Traceback" not in told
    assert [told.count(message) for message in (NO_NODE, NO_POD)] == [1, 1], told


NO_NODE = "whether any node ever could is not known: nodes may not be listed"
NO_POD = "the cluster has made no pod of it for over 30 s; why is not known: events may not be listed"


def without_events_and_nodes(cluster: LabCluster) -> None:
    role = json.loads(cluster.kubectl("-n", NAMESPACE, "get", "role", "orchestrator", "-o", "json"))
    (number,) = [number for number, rule in enumerate(role["rules"]) if rule["resources"] == ["events"]]
    patch = json.dumps([{"op": "remove", "path": f"/rules/{number}"}])
    cluster.kubectl("-n", NAMESPACE, "patch", "role", "orchestrator", "--type=json", "-p", patch)
    cluster.kubectl("delete", "clusterrolebinding", "sd-orchestrator-nodes")
    account = f"--as=system:serviceaccount:{NAMESPACE}:orchestrator"

    def may(what: str) -> bool:
        return "yes" in cluster.kubectl("auth", "can-i", "list", what, "-n", NAMESPACE, account, check=False)

    engines.wait_until(lambda: not may("events") and not may("nodes"), 240, "events or nodes can still be listed")


def test_without_a_right_that_jobs_need_the_check_names_the_line_that_grants_it(
    account: LabCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("hosts.yaml").write_text(HOSTS)
    account.kubectl("--kubeconfig", str(account.kubeconfig), "-n", NAMESPACE, "patch", "role", "orchestrator",
                    "--type=json", "-p", '[{"op": "remove", "path": "/rules/1"}]')  # fmt: skip
    assert orchestrator("hosts", "--check", "--hosts", "cpu", "-o", "json") == 1
    findings = json.loads(capfd.readouterr().out)
    said = [it for it in findings["cpu"] if it["topic"] == "permissions"]
    jobs = [p for p in permissions.permissions() if p.resource == "jobs" and p.is_needed]
    assert [it["remedy"].partition(";")[0] for it in said] == [f"granted by {p.where}" for p in jobs]
