"""A real Kubernetes cluster for the live tests: LAB_CLUSTER's, or a private one where the lab's scripts are there.

Its parts are processes of this machine, so that a test can stop a kubelet or the API server and start it again.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from engines import BASE_IMAGE, ROOT, Daemon, Engine, free_port, last_lines, missing, wait_until

SCRIPTS = Path(os.environ.get("LAB", ROOT.parent / "shared" / "lab"))
BUILT = Path(os.environ.get("LAB_KUBERNETES", Path.home() / ".cache/lab/kubernetes"))  # where its scripts build them
PROGRAMS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kubectl", "etcd", "dockerd")
NODES = ("node-a", "node-b")
GPUS = 2


@dataclass(frozen=True)
class LabCluster:
    """The cluster in `folder`, as ../shared/lab/cluster makes it. The first node seems to have GPUs."""

    folder: Path
    nodes: tuple[str, ...] = NODES
    context: str = "lab"

    @property
    def kubeconfig(self) -> Path:
        return self.folder / "kubeconfig"

    def engine(self, node: str) -> Engine:
        return Engine(f"unix://{self.folder}/{node}/docker.sock")

    def kubectl(self, *words: str, check: bool = True) -> str:
        command = ["kubectl", "--kubeconfig", str(self.kubeconfig), *words]
        return subprocess.run(command, check=check, capture_output=True, text=True).stdout

    def stop(self, part: str) -> None:
        """Ends a part at once: `apiserver`, `kubelet-node-a`, …"""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid(part), signal.SIGKILL)
        wait_until(lambda: not self.runs(part), 240, f"{part} did not end")

    def freeze(self, part: str) -> None:
        """It holds its connections and says nothing any more, as behind a cable that was cut."""
        os.kill(self._pid(part), signal.SIGSTOP)

    def thaw(self, part: str) -> None:
        os.kill(self._pid(part), signal.SIGCONT)

    def runs(self, part: str) -> bool:
        try:
            return "State:\tZ" not in Path(f"/proc/{self._pid(part)}/status").read_text()
        except OSError:
            return False

    def start(self, part: str) -> None:
        """The part again, as it was: the command line of its first start is kept beside its log."""
        if self.runs(part):
            return
        command = self._command(part).split("\0")
        if part.startswith("kubelet-"):
            own = self.folder / part.removeprefix("kubelet-")
            (own / "pods").mkdir(exist_ok=True)
            # of two that start at once with one socket, both would speak to the engine of the later one
            command.append(f"--container-runtime-endpoint=unix://{own}/dockershim.sock")
            script = 'mount --bind "$0/pods" /var/log/pods && exec "$@"'
            command = ["unshare", "--mount", "--propagation", "unchanged", "sh", "-c", script, str(own), *command]
        # as nobody's child: it may outlive the test
        script = 'cd "$0"; log=$1; shift; setsid "$@" >> "$log" 2>&1 < /dev/null & echo $!'
        words = ["sh", "-c", script, str(self.folder), str(self.folder / f"{part}.log"), *command]
        pid = subprocess.run(words, check=True, capture_output=True, text=True).stdout
        (self.folder / f"{part}.pid").write_text(pid)
        if part == "apiserver":
            wait_until(lambda: "ok" in self.kubectl("get", "--raw", "/readyz", check=False), 240, "no API server")

    def revision(self) -> int:
        """Of the last change to any object: what resourceVersions are."""
        everything = {"key": base64.b64encode(b"/").decode(), "range_end": base64.b64encode(b"0").decode()}
        return int(self._etcd("range", {**everything, "count_only": True})["header"]["revision"])

    def forget_before(self, revision: int) -> None:
        """Compacts etcd: of what was before there is no history any more, and whoever asks for it is told 410."""
        self._etcd("compaction", {"revision": revision, "physical": True})

    @contextlib.contextmanager
    def without_memory(self, folder: Path) -> Iterator[Path]:
        """One more API server, which keeps no changes itself, and asks etcd for them; yields its kubeconfig."""
        port, kubeconfig = free_port(), folder / "kubeconfig-without-memory"
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"
        kubeconfig.write_text(yaml.safe_dump(config))
        own = [f"--secure-port={port}", "--watch-cache=false", "--endpoint-reconciler-type=none"]
        command = ["sh", "-c", 'cd "$0" && exec "$@"', str(self.folder), *self._command("apiserver").split("\0"), *own]
        ready = ("--kubeconfig", str(kubeconfig), "get", "--raw", "/readyz")
        server = Daemon(command, folder / "apiserver.log", lambda: "ok" in self.kubectl(*ready, check=False))
        try:
            server.start()
            yield kubeconfig
        finally:
            server.stop()

    def _etcd(self, verb: str, question: dict[str, Any]) -> dict[str, Any]:
        """By the JSON way to its API: https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway/"""
        servers = [word for word in self._command("apiserver").split("\0") if word.startswith("--etcd-servers=")]
        url = f"{servers[0].partition('=')[2]}/v3/kv/{verb}"
        with urllib.request.urlopen(url, data=json.dumps(question).encode(), timeout=30) as answer:
            return dict(json.load(answer))

    def make_ready(self) -> None:
        """Keeps what each part was started with, and gives each kubelet a folder of logs to itself.

        Kubelets remove the logs of pods that they do not know, once a minute: those of their neighbours on one machine.
        """
        for part in [file.stem for file in self.folder.glob("*.pid")]:
            if self.runs(part):
                self._command(part)
                if part.startswith("kubelet-") and _mounts(self._pid(part)) == _mounts(os.getpid()):
                    self.stop(part)
            self.start(part)

    def _pid(self, part: str) -> int:
        return int((self.folder / f"{part}.pid").read_text())

    def _command(self, part: str) -> str:
        kept = self.folder / f"{part}.command"
        if not kept.exists():
            kept.write_bytes(Path(f"/proc/{self._pid(part)}/cmdline").read_bytes().rstrip(b"\0"))
        return kept.read_text()


def _mounts(pid: int) -> str:
    return os.readlink(f"/proc/{pid}/ns/mnt")


@contextlib.contextmanager
def lab_cluster() -> Iterator[LabCluster]:
    """LAB_CLUSTER names the folder of one that runs; without it a private one is started, and ended."""
    named = os.environ.get("LAB_CLUSTER")
    if named:
        if shutil.which("kubectl") is None:
            missing("a Kubernetes cluster: kubectl is not installed")
        cluster = LabCluster(Path(named).resolve())
        try:
            wait_until(lambda: "ok" in cluster.kubectl("get", "--raw", "/readyz", check=False), 240, "60 s")
        except TimeoutError:
            missing(f"LAB_CLUSTER={named} does not answer")
        with _ready(cluster):
            yield cluster
        return
    if os.geteuid() != 0 or not (SCRIPTS / "cluster").exists():
        missing("a Kubernetes cluster: LAB_CLUSTER names none, and starting one needs root and ../shared/lab")
    if absent := [name for name in PROGRAMS if shutil.which(name, path=f"{BUILT}:{os.environ['PATH']}") is None]:
        missing(f"a Kubernetes cluster: {', '.join(absent)} not installed")
    folder = Path(tempfile.mkdtemp(prefix="orc-cluster-"))
    environment = {**os.environ, "LAB_PORT": str(free_port())}
    cluster = LabCluster(folder)
    commands = [["cluster", "up", str(folder), *NODES]]
    commands += [["base-image", cluster.engine(node).url, BASE_IMAGE] for node in NODES]
    with (folder / "up.log").open("wb") as log:
        try:
            for name, *words in commands:
                ended = subprocess.run([SCRIPTS / name, *words], env=environment, stdout=log, stderr=log, check=False)
                if ended.returncode:
                    missing(f"a Kubernetes cluster: {name} failed: {last_lines(folder / 'up.log')}")
            with _ready(cluster):
                yield cluster
        finally:
            subprocess.run([SCRIPTS / "cluster", "down", folder], stdout=log, stderr=log, check=False)
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _ready(cluster: LabCluster) -> Iterator[None]:
    """GPUs advertised, labels of a CPU pool, and KUBECONFIG for all that this process runs; what fell is up again."""
    cluster.make_ready()
    port = cluster.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}").rpartition(":")[2]
    subprocess.run(
        [SCRIPTS / "cluster", "gpus", cluster.folder, cluster.nodes[0], str(GPUS)],
        env={**os.environ, "LAB_PORT": port},
        check=True,
        capture_output=True,
    )
    cluster.kubectl("label", "--overwrite", "node", cluster.nodes[1], "pool=cpu")
    before = os.environ.get("KUBECONFIG")
    os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
    try:
        yield
    finally:
        for file in cluster.folder.glob("*.command"):
            cluster.start(file.stem)
        os.environ.pop("KUBECONFIG")
        if before is not None:
            os.environ["KUBECONFIG"] = before
