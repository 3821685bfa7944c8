"""An API server that lies costs its own host's jobs: no hang, no gigabytes, no traceback, no token sent elsewhere."""

from __future__ import annotations

import copy
import io
import json
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from canary import Canary
from commands import PROGRAM
from lying_engine import JOB, Answer, LyingEngine, as_json, chunked, endless, http, in_chunks
from memory import grows_by_less_than
from test_lying_engine_live import BOMB, CHUNK, NO_ENGINES_ANSWERS

from orchestrator.config import KubernetesHost
from orchestrator.errors import BadResult, HostUnfit, HostUnreachable, Incomplete, StartError
from orchestrator.executors.contract import Attempt, Slot, State, Task
from orchestrator.executors.kubernetes import cluster
from orchestrator.executors.kubernetes.check import check
from orchestrator.executors.kubernetes.executor import KubernetesExecutor
from orchestrator.executors.kubernetes.manifest import MANIFEST, staged
from orchestrator.runs.rows import read_rows
from runner.schema import Job, Status
from runner.wire.frames import FrameWriter

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")]
# 64 MiB of JSON, and its pieces, and the objects that are made of it.
BOUND_MB = 700
ATTEMPT = Attempt("r", "j", 1)
EMPTY = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": []}
OURS = (HostUnreachable, HostUnfit, StartError, BadResult, Incomplete)


def served(certificates: Path) -> LyingEngine:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "server-cert.pem", certificates / "server-key.pem")
    made = LyingEngine(tls=context)
    made.honest = {"": EMPTY}
    return made


def kubeconfig(folder: Path, certificates: Path, port: int, token: str) -> Path:
    """Of a user who has a bearer token."""
    cluster = {"server": f"https://127.0.0.1:{port}", "certificate-authority": str(certificates / "ca.pem")}
    whole = {
        "current-context": "liar",
        "clusters": [{"name": "liar", "cluster": cluster}],
        "users": [{"name": "liar", "user": {"token": token}}],
        "contexts": [{"name": "liar", "context": {"cluster": "liar", "user": "liar", "namespace": "bench"}}],
    }
    (folder / "kubeconfig").write_text(json.dumps(whole))
    return folder / "kubeconfig"


@pytest.fixture
def token() -> Canary:
    return Canary()


@pytest.fixture
def liar(tmp_path: Path, certificates: Path, token: Canary, monkeypatch: pytest.MonkeyPatch) -> Iterator[LyingEngine]:
    made = served(certificates)
    monkeypatch.setenv("KUBECONFIG", str(kubeconfig(tmp_path, certificates, made.port, token.text)))
    yield made
    made.close()


@pytest.fixture
def executor(liar: LyingEngine) -> Iterator[KubernetesExecutor]:
    made = KubernetesExecutor(HOST)
    yield made
    made.close()


HOST = KubernetesHost(name="liar", gpus="none")


def outcome(call: Callable[[], object]) -> tuple[str, object]:
    """What went wrong, by the message of an error of ours, or what came of it."""
    try:
        return "", call()
    except OURS as error:
        return str(error), None


NO_SERVERS_ANSWERS: dict[str, Answer] = {
    **{what: answer for what, answer in NO_ENGINES_ANSWERS.items() if what != "a status that is none"},
    "as many values as fit": endless(chunked(), again=in_chunks(b"{},[],0," * 8192)),
    "as many values as fit, complete": http(b'{"items":[' + b"{},0," * (12 << 20) + b"{}]}"),
    "a refusal of brackets": http(b"[" * 900_000, status="403 Forbidden"),
    "a refusal of a long name": http(json.dumps({"message": "x" * 900_000}).encode(), status="403 Forbidden"),
    "a date that is none": http(b"{}", "Date: Mon, 99 Foo 9999999 99:99:99 +9999"),
    "another protocol": b"SSH-2.0-OpenSSH_9.2\r\n" * 100,
    "a list of numbers": as_json({"items": [1, 2]}),
    "items that are none": as_json({"items": {"a": [{}]}}),
}


@pytest.mark.parametrize("where", ["/configmaps", "/pods"])
@pytest.mark.parametrize("what", NO_SERVERS_ANSWERS)
def test_what_no_api_server_answers_is_a_host_that_does_not(
    liar: LyingEngine, executor: KubernetesExecutor, what: str, where: str
) -> None:
    liar.answers[where] = NO_SERVERS_ANSWERS[what]
    with grows_by_less_than(BOUND_MB):
        said, seen = outcome(executor.observe)
    assert said.startswith("host liar, context liar: ") or seen == {}
    assert len(said) < 3000
    assert said or what in ("a date that is none", "another shape")


@pytest.mark.parametrize("what", NO_SERVERS_ANSWERS)
def test_checking_a_host_whose_api_server_lies_is_a_finding(liar: LyingEngine, what: str) -> None:
    liar.answers[""] = NO_SERVERS_ANSWERS[what]
    with grows_by_less_than(BOUND_MB):
        (finding,) = check(HOST, cluster.Cluster(HOST))
    assert finding.topic == "connection"


def test_an_answer_that_trickles_is_given_up(
    liar: LyingEngine, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_TIMEOUT_S", 2.0)

    def trickle() -> Iterator[bytes]:
        yield chunked()
        while True:
            time.sleep(0.05)
            yield in_chunks(b" ")

    liar.answers["/configmaps"] = trickle
    with pytest.raises(HostUnreachable, match="not complete after"):
        executor.observe()


# --- lists in pages


def page(*items: object, following: str = "") -> bytes:
    return as_json({"kind": "List", "metadata": {"resourceVersion": "1", "continue": following}, "items": items})


def large_pod(node: str) -> dict[str, Any]:
    """As pods are with a service mesh and every stamp of their fields: 70 kB, of which three values count."""
    fields = [{"manager": f"m{number}", "fieldsV1": {"f:spec": {"f:x": "y" * 60}}} for number in range(600)]
    container = {"name": "c", "resources": {"limits": {"nvidia.com/gpu": "1"}}}
    metadata = {"name": "p", "managedFields": fields}
    return {"metadata": metadata, "spec": {"nodeName": node, "containers": [container]}, "status": {"phase": "Running"}}


def test_a_cluster_whose_pods_are_more_than_one_answer_may_hold_is_checked_all_the_same(liar: LyingEngine) -> None:
    pods, pages = [large_pod(node) for node in "ab" * 200], 5
    assert len(page(*pods)) * pages > 2 * cluster.ANSWER_LIMIT_BYTES
    offer = {"allocatable": {"nvidia.com/gpu": str(200 * pages + 8)}}
    nodes = [{"metadata": {"name": name, "labels": {}}, "spec": {}, "status": offer} for name in "ab"]
    liar.answers = {
        "/version": as_json({"gitVersion": "v1.33.0"}),
        "selfsubjectaccessreviews": as_json({"status": {"allowed": True}}),
        "/api/v1/nodes.*continue=b": page(nodes[1]),
        "/api/v1/nodes": page(nodes[0], following="b"),
        f"/api/v1/pods.*continue={pages}$": page(*pods),
        **{rf"/api/v1/pods.*continue={number}$": page(*pods, following=str(number + 1)) for number in range(2, pages)},
        "/api/v1/pods": page(*pods, following="2"),
    }
    with grows_by_less_than(BOUND_MB):
        found = check(KubernetesHost(name="liar"), cluster.Cluster(HOST))
    assert [finding.text for finding in found if finding.topic == "gpus"] == [
        "GPUs of unknown make: 16 of 2016 free, on 2 nodes"
    ]


@pytest.mark.parametrize("resource", ["configmaps", "pods"])
def test_pages_without_end_are_given_up_before_they_fill_the_memory(
    liar: LyingEngine, executor: KubernetesExecutor, resource: str
) -> None:
    liar.answers[f"/{resource}"] = page(*[{"metadata": {"name": "x" * 5000}}] * 1000, following="more")
    with grows_by_less_than(BOUND_MB), pytest.raises(HostUnreachable, match="too many values"):
        executor.observe()


def test_what_is_kept_of_pages_without_end_is_given_up_before_it_fills_the_memory(liar: LyingEngine) -> None:
    node = {"metadata": {"name": "x", "labels": {"y": "z" * 5000}}, "spec": {}, "status": {}}
    liar.answers = {
        "/version": as_json({"gitVersion": "v1.33.0"}),
        "selfsubjectaccessreviews": as_json({"status": {"allowed": True}}),
        "/api/v1/nodes": page(*[node] * 1000, following="more"),
    }
    with grows_by_less_than(BOUND_MB):
        (finding,) = check(HOST, cluster.Cluster(HOST))
    assert "too many values" in finding.text


def test_pages_without_end_and_with_nothing_in_them_are_given_up(
    liar: LyingEngine, executor: KubernetesExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "ANSWER_TIMEOUT_S", 2.0)
    liar.answers["/configmaps"] = page(following="more")
    with pytest.raises(HostUnreachable, match="a list that is not complete after"):
        executor.observe()


def test_a_list_whose_next_page_is_forgotten_is_read_anew_by_the_next_look(
    liar: LyingEngine, executor: KubernetesExecutor
) -> None:
    ended_attempt().shown_by(liar)
    said = {"kind": "Status", "message": "The provided continue parameter is too old", "reason": "Expired"}
    forgotten = http(json.dumps(said).encode(), status="410 Gone")
    honest, whole = dict(liar.answers), json.loads(liar.answers["/pods"].partition(b"\r\n\r\n")[2])  # type: ignore[union-attr]
    liar.answers = {
        "/pods.*continue=": forgotten, r"/pods\?": page(*whole["items"], following="more"), **honest,
    }  # fmt: skip
    with pytest.raises(HostUnreachable, match="is too old"):
        executor.observe()
    liar.answers = honest
    assert list(executor.observe()) == [ATTEMPT]


@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
)
def test_an_api_server_cannot_send_its_caller_or_the_token_elsewhere(
    liar: LyingEngine, executor: KubernetesExecutor, certificates: Path, status: str
) -> None:
    with_tls, without = served(certificates), LyingEngine()
    try:
        for elsewhere in (f"https://127.0.0.1:{with_tls.port}/x", f"http://127.0.0.1:{without.port}/x"):
            liar.answers[""] = http(b"", f"Location: {elsewhere}", status=status)
            deeds = (
                executor.observe,
                lambda: executor.start(ATTEMPT, "hf_x", "y"),
                lambda: list(executor.log(ATTEMPT)),
            )
            assert all(outcome(deed)[0] for deed in deeds)
        assert liar.asked
        assert with_tls.asked == without.asked == []
    finally:
        with_tls.close()
        without.close()


# --- objects


@dataclass
class Objects:
    """An attempt that has ended, as an honest server shows it: each test spoils what it likes."""

    config: dict[str, Any]
    job: dict[str, Any]
    pod: dict[str, Any]

    def shown_by(self, liar: LyingEngine) -> None:
        liar.answers |= {
            "/log": http(framed("results.csv", "a,b\n", "p")),
            r"/configmaps/\w": as_json(self.config),
            r"/jobs/\w": as_json(self.job),
            "/configmaps": as_json({**EMPTY, "items": [self.config]}),
            "/jobs": as_json({**EMPTY, "items": [self.job]}),
            "/pods": as_json({**EMPTY, "items": [self.pod]}),
        }


def framed(file: str, text: str, stream: str) -> bytes:
    """A whole log."""
    out = io.StringIO()
    writer = FrameWriter(out, stream)
    writer.put(file, text)
    writer.end()
    return out.getvalue().encode()


def ended_attempt(attempt: Attempt = ATTEMPT) -> Objects:
    config = staged(Task(attempt, Job.from_json(json.dumps(JOB)), Slot("1"), "i"), HOST)
    job = json.loads(config["data"][MANIFEST])
    stamp = "2026-11-24T12:00:00Z"
    job["metadata"] |= {"uid": "j", "creationTimestamp": stamp}
    owner = {"name": job["metadata"]["name"], "uid": "j"}
    state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": "x"}}
    pod = {
        "metadata": {**job["metadata"], "name": "pod", "uid": "p", "ownerReferences": [owner]},
        "spec": job["spec"]["template"]["spec"],
        "status": {
            "phase": "Succeeded",
            "startTime": stamp,
            "conditions": [{"type": "PodScheduled", "status": "True", "lastTransitionTime": stamp}],
            "containerStatuses": [{"name": "runner", "state": state}],
        },
    }
    return Objects({**config, "metadata": {**config["metadata"], "ownerReferences": [owner]}}, job, pod)


def places(value: object, *way: object) -> Iterator[tuple[object, ...]]:
    """Every way into nested dicts and lists."""
    if way:
        yield way
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in pairs:
        yield from places(below, *way, key)


def spoiled(objects: Objects, way: tuple[object, ...], new: object) -> Objects:
    made = copy.deepcopy(objects)
    at: Any = vars(made)
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = new
    return made


def test_the_objects_that_are_spoiled_below_are_believed_while_they_are_not(
    liar: LyingEngine, executor: KubernetesExecutor
) -> None:
    ended_attempt().shown_by(liar)
    assert [(a, seen.state) for a, seen in executor.observe().items()] == [(ATTEMPT, State.EXITED)]
    assert executor.fetch(ATTEMPT, "results.csv") == b"a,b\n"


@pytest.mark.parametrize(
    "new",
    [None, [[1]], {"a": 1}, 1e308, "../../../nodes/x\x1b[2J?watch=1", "9" * 5000],
    ids=lambda value: str(value)[:20],
)
def test_an_object_with_anything_in_any_place_makes_no_traceback_and_leads_to_no_other_object(
    liar: LyingEngine, executor: KubernetesExecutor, new: object
) -> None:
    objects = ended_attempt()
    for way in places(vars(objects)):
        if "template" in way or (way[0] == "pod" and "spec" in way and len(way) > 2):
            continue
        for phase in ("Succeeded", "Running") if way[0] == "pod" else ("Succeeded",):
            running = spoiled(objects, ("pod", "status", "phase"), phase)
            spoiled(running, way, new).shown_by(liar)
            executor._files = {}
            for deed in (
                executor.observe,
                lambda: executor.fetch(ATTEMPT, "results.csv"),
                lambda: executor.receipt(ATTEMPT),
                lambda: list(executor.log(ATTEMPT)),
                lambda: executor.stop(ATTEMPT, 1),
                lambda: executor.start(ATTEMPT, "hf_x"),
                lambda: executor.remove(ATTEMPT),
            ):
                outcome(deed)
    kinds = "pods|jobs|configmaps|secrets|events"
    ours = rf"/(api/v1|apis/batch/v1)/namespaces/bench/({kinds})(/[\w.-]+(/log)?)?(\?.*)?|/api/v1/nodes\?limit=\d+"
    assert [path for path in liar.asked if not re.fullmatch(ours, path) or "/.." in path] == []


def test_a_server_that_shows_another_job_than_was_staged_gets_no_token(
    liar: LyingEngine, executor: KubernetesExecutor
) -> None:
    task, secret = Task(ATTEMPT, Job.from_json(json.dumps(JOB | {"model": "owner/gated"})), Slot("1"), "i"), Canary()
    config = staged(task, HOST)
    job = json.loads(config["data"][MANIFEST])
    job["spec"]["template"]["spec"]["containers"][0]["securityContext"]["privileged"] = True
    job["spec"]["template"]["spec"]["serviceAccountName"] = "admin"
    tampered = {**config, "data": {**config["data"], MANIFEST: json.dumps(job)}}
    liar.answers = {r"/configmaps/\w": as_json(tampered), "/configmaps": as_json(config)}
    executor.stage(task)
    said, _ = outcome(lambda: executor.start(ATTEMPT, secret.text))
    assert "containers[0].securityContext.privileged" in said
    assert "spec.template.spec.serviceAccountName" in said
    assert not [path for path in liar.asked if "/jobs" in path or "/secrets" in path]
    assert not secret.is_in(b"".join(liar.received))


# --- a log, and a watch


ROWS = "x" * 2000 + "\n"
LOGS: dict[str, Answer] = {
    "a line without end": endless(chunked(), again=CHUNK),
    "lines without end": endless(chunked(), again=in_chunks(b"2026-11-24T12:00:00.000000000Z x\n" * 2000)),
    "a chunk's length without end": endless(chunked(), again=b"0" * 65536),
    "a length beyond all bounds": endless(
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", again=b" " * 65536
    ),
    "what is packed": http(BOMB, "Content-Encoding: gzip"),
    "frames of another run's pod": http(framed("results.csv", ROWS, "another")),
    "frames twice": http(framed("results.csv", ROWS, "p") * 2),
    "half a frame": http(framed("results.csv", ROWS, "p")[:1000]),
    "nothing": http(),
}


@pytest.mark.parametrize("what", LOGS)
def test_a_log_that_is_none_is_no_results(liar: LyingEngine, executor: KubernetesExecutor, what: str) -> None:
    ended_attempt().shown_by(liar)
    liar.answers = {"/log": LOGS[what], **{k: v for k, v in liar.answers.items() if k != "/log"}}
    with grows_by_less_than(BOUND_MB), pytest.raises(OURS):
        executor.fetch(ATTEMPT, "results.csv")


@pytest.mark.parametrize("what", LOGS)
def test_a_log_that_is_none_is_shown_as_far_as_any_log_goes(
    liar: LyingEngine, executor: KubernetesExecutor, what: str
) -> None:
    ended_attempt().shown_by(liar)
    liar.answers["/log"] = LOGS[what]
    with grows_by_less_than(BOUND_MB):
        said, _ = outcome(lambda: sum(len(line) for line in executor.log(ATTEMPT)))
    assert said == "" or said.startswith("host liar")


def test_a_frame_behind_a_line_that_is_longer_than_any_is_found(
    liar: LyingEngine, executor: KubernetesExecutor
) -> None:
    ended_attempt().shown_by(liar)
    liar.answers["/log"] = http(b"x" * (5 << 20) + framed("results.csv", ROWS, "p"))
    assert executor.fetch(ATTEMPT, "results.csv") == ROWS.encode()


@pytest.mark.parametrize(
    "said",
    [
        b"x" * 65536,
        b"[" * 65000 + b"\n",
        b"[1]\n",
        b"null\n",
        b'{"type": "ADDED"}\n',
        b'{"type": 1, "object": []}\n',
        b"\xff\n",
    ],
    ids=["a line without end", "brackets", "a list", "null", "no object", "another object", "no text"],
)
def test_a_watch_that_sends_anything_wakes_and_does_no_harm(
    liar: LyingEngine, executor: KubernetesExecutor, said: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    crashed: list[object] = []
    monkeypatch.setattr(threading, "excepthook", lambda arguments: crashed.append(arguments))
    liar.answers["watch=1"] = endless(chunked(), again=in_chunks(said))
    with grows_by_less_than(BOUND_MB):
        for _ in range(20):
            executor.wait(0.1)
    assert crashed == []
    assert (shared := executor._watch.shared)
    assert all(stream.is_running for each in shared.informers for stream in each.streams)


# --- a whole run


@pytest.mark.parametrize(
    "what", ["brackets", "a refusal that draws", "an attempt of another run", "a token that comes back"]
)
def test_a_run_on_a_cluster_that_lies_ends_in_rows_and_messages_and_the_other_host_is_not_held_up(
    here: Path, liar: LyingEngine, token: Canary, what: str
) -> None:
    drawn = "\x1b]0;x\x07\x1b[2J\u202e../../x"
    ended_attempt(Attempt("../../etc", "x\x1b[2J", 1)).shown_by(liar)
    lies: dict[str, dict[str, Answer]] = {
        "brackets": {"": http(b"[" * 1_000_000)},
        "a refusal that draws": {"": http(json.dumps({"message": drawn}).encode(), status="403 Forbidden")},
        "an attempt of another run": liar.answers,
        "a token that comes back": {"": http(f'{{"message": "no {token.text}"}}'.encode(), status="500 Error")},
    }
    liar.answers = {r"/jobs\?.*limit=1$": as_json(EMPTY), **lies[what]}  # honest until the run has begun
    hosts = {"here": {"kind": "process"}, "liar": {"kind": "kubernetes", "gpus": "none", "images": {"cpu": "i:1"}}}
    (here / "hosts.yaml").write_text(json.dumps({"hosts": hosts}))
    (here / "matrix.yaml").write_text(
        json.dumps({"name": "n", "matrix": {"samples": [1]}, "prompt": "rows", "repeats": 6, "rounds": 1, "retries": 0})
    )
    command = [sys.executable, PROGRAM, "submit", "matrix.yaml", "--lost-after", "1s"]
    ended = subprocess.run(command, cwd=here, capture_output=True, timeout=600)
    said = ended.stdout.decode() + ended.stderr.decode()
    assert "Traceback" not in said
    kept = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert not set("\x1b\x07\u202e") & set(said)
    assert set(here.iterdir()) == {here / name for name in ("hosts.yaml", "matrix.yaml", "runs")}, said
    (run,) = (here / "runs").iterdir()
    rows = sorted(read_rows(run / "results.csv"), key=lambda row: row.host or "")
    assert [(row.host, row.status is Status.OK) for row in rows] == [("here", True), ("liar", False)], said
    assert not token.is_in(said.encode())
    assert [path for path, data in kept.items() if token.is_in(data)] == []
