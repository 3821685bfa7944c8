"""Real Docker engines for the live tests: the one that is there, private ones, and ways to them by SSH and TLS."""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NoReturn

import docker
import psutil
import pytest
import requests

from orchestrator import images
from runner.schema import Job

BASE_IMAGE = "python:3.11-slim-bookworm"
CONTRACT_IMAGE = "sd-orchestrator-contract:1"
WIRE = ("__init__", "frames", "result_bundle", "delivery", "tokens")
REAL_MODULES = ("catalog", "schema", "models/__init__", "models/folders", *(f"wire/{name}" for name in WIRE))
ROOT = Path(__file__).parents[2]
SSH_CONFIGS: list[Path] = []
DEAD = (docker.errors.DockerException, requests.RequestException, OSError)  # what an engine that is down may raise
DOCKERFILE = f"""\
ARG BASE={BASE_IMAGE}
FROM ${{BASE}}
RUN install -d -o 1000 -g 1000 /job
ENV PYTHONPATH=/opt/runner PYTHONDONTWRITEBYTECODE=1
COPY runner /opt/runner/runner
WORKDIR /job
USER 1000:1000
"""


class DidNotStart(Exception):
    """A program in the background ended, or was not there in time."""


@dataclass
class Daemon:
    """A program in the background that can be stopped and started again. log: a file."""

    command: list[str]
    log: Path
    up: Callable[[], bool]
    pid_files: tuple[Path, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it. One that says nothing is killed and started once more: a dockerd after its predecessor's kill."""
        try:
            self._begin()
        except TimeoutError:
            self.kill()
            try:
                self._begin()
            except TimeoutError as error:
                raise DidNotStart(f"{self.command[0]} did not start: {error}, twice") from error

    def _begin(self) -> None:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: self._ended() or self.up(), 180, "180 s were not enough")
        if self._ended():
            raise DidNotStart(f"{self.command[0]} did not start: it ended: {last_lines(self.log)}")

    def stop(self) -> None:
        """As its machine's shutdown would: politely."""
        if self.process is not None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(40)
            self.kill()

    def _ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def kill(self) -> None:
        """Ends it and all that it started, at once, as a power cut would."""
        if self.process is not None:
            for pid in (*children(self.process.pid), self.process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.wait()
            self.process = None
            for file in self.pid_files:  # its number may be another process's by now, and it would wait for that one
                file.unlink(missing_ok=True)


@dataclass(frozen=True)
class Engine:
    """An engine that listens at `url` (a DOCKER_HOST). daemon: if it is ours to stop and start."""

    url: str
    daemon: Daemon | None = field(default=None, compare=False)

    @property
    def socket(self) -> str:
        return self.url.removeprefix("unix://")

    def client(self) -> docker.APIClient:
        return docker.APIClient(self.url, version="auto", timeout=120)


@dataclass(frozen=True)
class SshEngine:
    """An engine behind a real sshd. config: the client's; `ssh` on the PATH of this process uses it."""

    url: str
    port: int
    folder: Path
    sshd: Daemon


@dataclass(frozen=True)
class TlsEngine:
    """An engine on TCP with TLS alone. `certificates` has ca, cert and key, and other-… of a stranger."""

    url: str
    certificates: Path


def missing(what: str) -> NoReturn:
    """Skips the test; where continuous integration promised to have it, fails it."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what)


def free_port() -> int:
    """A port outside of the range from which the kernel gives ports, so that nobody is given it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextlib.contextmanager
def private_engine(*options: str) -> Iterator[Engine]:
    """A dockerd in a folder of its own, with a bridge of its own: with none it would delete its neighbour's docker0."""
    if os.geteuid() != 0 or shutil.which("dockerd") is None or shutil.which("ip") is None:
        missing("a private Docker engine needs root, dockerd and ip")
    folder = Path(tempfile.mkdtemp(prefix="orc-engine-"))
    bridge = new_bridge(zlib.crc32(str(folder).encode()))
    url = f"unix://{folder}/docker.sock"
    command = ["dockerd", "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "-H", url]
    command += ["--pidfile", f"{folder}/docker.pid", "--bridge", bridge, *clamped_runtime(folder), *options]
    pid_files = (folder / "docker.pid", folder / "exec/containerd/containerd.pid")
    daemon = Daemon(command, folder / "log", lambda: answers(url), pid_files)
    try:
        try:
            daemon.start()
        except DidNotStart as error:
            missing(f"a private Docker engine does not start on this machine: {error}")
        yield Engine(url, daemon)
    finally:
        daemon.stop()
        quietly("ip", "link", "del", bridge)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for mount in (mount for mount in reversed(mounts) if mount.startswith(f"{folder}/")):
            quietly("umount", "-l", mount)  # an engine that was killed has mounted what it mounted again
        shutil.rmtree(folder, ignore_errors=True)


def new_bridge(seed: int) -> str:
    """Its name. Two engines on one bridge would give their containers the same addresses."""
    for number in ((seed + more) % 250 + 1 for more in range(250)):
        bridge = f"orct{number}"
        if subprocess.run(["ip", "link", "add", bridge, "type", "bridge"], capture_output=True).returncode == 0:
            quietly("ip", "addr", "add", f"10.202.{number}.1/24", "dev", bridge)
            quietly("ip", "link", "set", bridge, "up")
            return bridge
    missing("a private Docker engine needs a network bridge, and none can be made")


def clamped_runtime(folder: Path) -> list[str]:
    """Options for a runtime that takes no negative oom_score_adj, where this machine may not set one."""
    runtime = folder / "runc"
    runtime.write_text(
        "#!/bin/sh\n"
        'previous=; for word in "$@"; do case "$previous" in --bundle|-b) bundle=$word;; esac; previous=$word; done\n'
        '[ -f "$bundle/config.json" ] && sed -i \'s/"oomScoreAdj":-[0-9]*/"oomScoreAdj":0/\' "$bundle/config.json"\n'
        'exec runc "$@"\n'
    )
    runtime.chmod(0o755)
    return ["--add-runtime", f"clamped={runtime}", "--default-runtime", "clamped"]


def answers(url: str) -> bool:
    """Whether an engine is there; a local socket is tried first, since the client leaks those that refuse."""
    try:
        if url.startswith("unix://"):
            with socket.socket(socket.AF_UNIX) as probe:
                probe.connect(url.removeprefix("unix://"))
        with contextlib.closing(docker.APIClient(url, version="1.41", timeout=30)) as api:
            return bool(api.ping())
    except (docker.errors.DockerException, OSError):
        return False


def wait_until(true: Callable[[], object], timeout_s: float, message: str) -> None:
    deadline = time.monotonic() + timeout_s
    while not true():
        if time.monotonic() > deadline:
            raise TimeoutError(message)
        time.sleep(0.05)


def last_lines(log: Path) -> str:
    return " | ".join(log.read_text(errors="replace").splitlines()[-5:])


def quietly(*command: str) -> None:
    subprocess.run(command, check=False, capture_output=True)


def contract_context() -> bytes:
    """A build context: the fake runner, with the real schema and the real delivery in it."""
    return packed(contract_files())


def contract_files() -> dict[str, bytes]:
    return {
        "Dockerfile": DOCKERFILE.encode(),
        "runner/__init__.py": b"",
        "runner/__main__.py": (ROOT / "tests/support/fake_runner/__main__.py").read_bytes(),
        **{f"runner/{name}.py": (ROOT / f"runner/{name}.py").read_bytes() for name in REAL_MODULES},
    }


def packed(files: Mapping[str, bytes]) -> bytes:
    """A tar archive of files by name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return out.getvalue()


@cache
def contract_image(engine: Engine, base_from: Engine | None = None) -> str:
    """The fake runner's image on an engine; its base comes from another one where it is not there."""
    ensure_base(engine, base_from)
    with contextlib.closing(engine.client()) as api:
        said = list(
            api.build(fileobj=io.BytesIO(contract_context()), custom_context=True, tag=CONTRACT_IMAGE, decode=True)
        )
        assert not any("error" in line for line in said), said
    return CONTRACT_IMAGE


def let_go(engine: Engine, name: str) -> None:
    """Ends the deed `wait` of the fake runner in the containers that have this in their name."""
    with contextlib.closing(engine.client()) as api:
        for found in api.containers(filters={"name": name}):
            # detached: an engine may never end the output of a program in a container that ends meanwhile
            api.exec_start(api.exec_create(found["Id"], ["touch", "/job/go"])["Id"], detach=True)


def furnish(engine: Engine, base_from: Engine | None = None) -> None:
    """Gives an engine of one's own the fake runner under the real image's name: nothing is built or streamed then."""
    made = contract_image(engine, base_from)
    with contextlib.closing(engine.client()) as api:
        repository, tag = images.reference("cpu").split(":")
        api.tag(made, repository, tag)


@contextlib.contextmanager
def furnished(engine: Engine, base_from: Engine) -> Iterator[Engine]:
    """As `furnish`, of an engine that others use too: under that name they find what is really built."""
    furnish(engine, base_from)
    yield engine
    with contextlib.closing(engine.client()) as api:
        api.remove_image(images.reference("cpu"))


def image_with_job(engine: Engine, image: str, job: Job) -> str:
    """The same image with a job in it, for whoever starts it by hand."""
    files = {
        "Dockerfile": f"FROM {image}\nCOPY --chown=1000 job /opt/job\n".encode(),
        "job/job.json": job.to_json().encode(),
    }
    with contextlib.closing(engine.client()) as api:
        list(api.build(fileobj=io.BytesIO(packed(files)), custom_context=True, tag=f"{image}-by-hand", decode=True))
    return f"{image}-by-hand"


def ensure_base(engine: Engine, base_from: Engine | None = None) -> None:
    """The base image on an engine: its own, another engine's, or the registry's; skips the test where none has it."""
    if base_from is None or has_base(engine):
        if why := why_no_base(engine):
            missing(f"{BASE_IMAGE} is not there and cannot be pulled: {why}")
        return
    ensure_base(base_from)
    with contextlib.closing(engine.client()) as api, contextlib.closing(base_from.client()) as source:
        said = list(api.load_image(source.get_image(BASE_IMAGE)))  # type: ignore[no-untyped-call]
    assert not any("error" in line for line in said), said


def has_base(engine: Engine) -> bool:
    with contextlib.closing(engine.client()) as api:
        return bool(api.images(BASE_IMAGE))


@cache
def why_no_base(engine: Engine) -> str:
    """Empty where the engine has the base image, or pulls it. Asked once: without a network each pull takes seconds."""
    if has_base(engine):
        return ""
    try:
        with contextlib.closing(engine.client()) as api:
            api.pull(BASE_IMAGE)
    except docker.errors.DockerException as error:
        return str(error)
    return ""


def named_folder(variable: str) -> Path:
    """The folder that a variable of the environment names."""
    named = os.environ.get(variable)
    if not named:
        missing(f"{variable} names no folder of wheels (docs/images.md)")
    return Path(str(named))


def children(pid: int) -> list[int]:
    """All processes below one, whatever session they are in."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return [one.pid for one in psutil.Process(pid).children(recursive=True)]
    return []


def listens(port: int, address: str = "127.0.0.1") -> bool:
    with contextlib.suppress(OSError), socket.create_connection((address, port), 1):
        return True
    return False


def keygen(path: Path) -> Path:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@contextlib.contextmanager
def far_away(engine: Engine) -> Iterator[tuple[SshEngine, Callable[[str], None]]]:
    """An engine behind an sshd in a network of its own, at the end of a cable: plug it in ("up") or out ("down")."""
    number = os.getpid() % 60_000
    space, here, there = f"orc{number}", f"orch{number}", f"orct{number}"
    subnet = f"10.203.{number % 250}"
    if shutil.which("ip") is None or subprocess.run(["ip", "netns", "add", space], capture_output=True).returncode != 0:
        missing("a network of its own needs root and network namespaces")
    try:
        for words in (
            f"ip link add {here} type veth peer name {there}",
            f"ip link set {there} netns {space}",
            f"ip addr add {subnet}.1/24 dev {here}",
            f"ip link set {here} up",
            f"ip -n {space} addr add {subnet}.2/24 dev {there}",
            f"ip -n {space} link set {there} up",
        ):
            subprocess.run(words.split(), check=True, capture_output=True)

        def cable(state: str) -> None:
            subprocess.run(["ip", "-n", space, "link", "set", there, state], check=True)

        with ssh_in_front_of(engine, f"{subnet}.2", ("ip", "netns", "exec", space)) as ssh:
            yield ssh, cable
    finally:
        quietly("ip", "link", "del", here)
        quietly("ip", "netns", "del", space)


@contextlib.contextmanager
def ssh_in_front_of(
    engine: Engine, address: str = "127.0.0.1", within: Sequence[str] = (), *, server: str = "", client: str = ""
) -> Iterator[SshEngine]:
    """A real sshd with a host key, a client key and a client's configuration of its own; the user's are not touched.

    server, client: more lines of sshd_config, and of ssh_config.

    `ssh` on PATH becomes one that reads the private configuration: OpenSSH finds the user's by the password database,
    not by HOME.
    """
    program = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")  # it must be called by its absolute path
    if None in (program, shutil.which("ssh"), shutil.which("ssh-keygen")) or os.geteuid() != 0:
        missing("an SSH host needs OpenSSH's client and server, and root")
    folder = Path(tempfile.mkdtemp(prefix="orc-ssh-"))
    # bash reads ~/.bashrc in a session; what the user has there may take a lock, and a killed session then leaves it
    home = f"SetEnv HOME={folder}/home"
    server = server.replace("SetEnv", home) if "SetEnv" in server else f"{server}\n{home}"  # sshd reads the first alone
    port = free_port()
    host_key, client_key = keygen(folder / "host_key"), keygen(folder / "client_key")
    shutil.copy(f"{client_key}.pub", folder / "authorized_keys")
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress {address}\nHostKey {host_key}\nPidFile {folder}/pid\n"
        f"AuthorizedKeysFile {folder}/authorized_keys\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\nUsePAM no\n{server}\nMaxSessions 2\n"
    )
    key = " ".join(Path(f"{host_key}.pub").read_text().split()[:2])
    (folder / "known_hosts").write_text(f"[{address}]:{port} {key}\n")
    others = "".join(f"Match all\nInclude {path}\n" for path in SSH_CONFIGS[-1:])  # of another that is open meanwhile
    (folder / "ssh_config").write_text(
        f"Host {address}\nIdentityFile {client_key}\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {folder}/known_hosts\nGlobalKnownHostsFile /dev/null\nStrictHostKeyChecking yes\n"
        f"UpdateHostKeys no\n{client}\n{others}"
    )
    wrapper = folder / "bin" / "ssh"
    wrapper.parent.mkdir()
    (folder / "home").mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)
    Path("/run/sshd").mkdir(exist_ok=True)  # where it locks itself in; a package's init script would make it
    command = [*within, str(program), "-D", "-e", "-f", f"{folder}/sshd_config"]
    sshd = Daemon(command, folder / "log", lambda: listens(port, address))
    path = os.environ["PATH"]
    os.environ["PATH"] = f"{wrapper.parent}:{path}"
    SSH_CONFIGS.append(folder / "ssh_config")
    try:
        sshd.start()
        yield SshEngine(f"ssh://root@{address}:{port}{engine.socket}", port, folder, sshd)
    finally:
        SSH_CONFIGS.pop()
        os.environ["PATH"] = path
        sshd.kill()
        shutil.rmtree(folder, ignore_errors=True)


def make_certificates(folder: Path) -> None:
    """A CA with server and client certificates, and a stranger's CA with a client of its own, all for one day.

    Two more for servers are of no use: one has expired, one is for another machine.
    """
    folder.mkdir(parents=True)

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    (folder / "server.ext").write_text("subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth\n")
    (folder / "elsewhere.ext").write_text("subjectAltName=DNS:elsewhere\nextendedKeyUsage=serverAuth\n")
    (folder / "client.ext").write_text("extendedKeyUsage=clientAuth\n")
    for ca in ("ca", "other-ca"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", f"/CN=test {ca}",
                "-addext", "keyUsage=critical,keyCertSign,cRLSign",
                "-keyout", f"{ca}-key.pem", "-out", f"{ca}.pem")  # fmt: skip
    for prefix, ca, purpose, days in (
        ("server-", "ca", "server", 1),
        ("expired-", "ca", "server", -1),
        ("elsewhere-", "ca", "elsewhere", 1),
        ("", "ca", "client", 1),
        ("other-", "other-ca", "client", 1),
    ):
        name = prefix.strip("-") or "client"
        openssl(
            "req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", f"{prefix}key.pem", "-out", "csr"
        )
        openssl("x509", "-req", "-in", "csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}-key.pem", "-CAcreateserial",
                "-days", str(days), "-extfile", f"{purpose}.ext", "-out", f"{prefix}cert.pem")  # fmt: skip


@contextlib.contextmanager
def tls_engine_at(folder: Path) -> Iterator[tuple[Engine, TlsEngine]]:
    """A private engine that listens on a loopback port with TLS, and on its socket, for the test's own use."""
    if shutil.which("openssl") is None:
        missing("certificates need openssl")
    certificates, port = folder / "certificates", free_port()
    make_certificates(certificates)
    options = ["-H", f"tcp://127.0.0.1:{port}", "--tlsverify", "--tlscacert", f"{certificates}/ca.pem"]
    options += ["--tlscert", f"{certificates}/server-cert.pem", "--tlskey", f"{certificates}/server-key.pem"]
    with private_engine(*options) as engine:
        yield engine, TlsEngine(f"tcp://127.0.0.1:{port}", certificates)


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[str]:
    """The registry of the distribution project, on a loopback port; yields its address."""
    program = shutil.which("docker-registry")
    if program is None:
        missing("docker-registry is not installed (Debian: docker-registry)")
    address = f"127.0.0.1:{free_port()}"
    config = folder / "registry.yml"
    config.write_text(
        f"version: 0.1\nstorage: {{filesystem: {{rootdirectory: {folder}/blobs}}}}\nhttp: {{addr: '{address}'}}\n"
    )
    daemon = Daemon(
        [str(program), "serve", str(config)], folder / "registry.log", lambda: listens(int(address.rpartition(":")[2]))
    )
    try:
        daemon.start()
        yield address
    finally:
        daemon.stop()
