"""Makes an SSH host's engine a private local socket: forwarded, or else bridged to `docker system dial-stdio`.

Measured on loopback, a call takes 1 ms through a forwarded socket. It takes 460 ms with one `ssh` per call, which
ignores timeouts. It takes 220 ms through paramiko, where half of 20 concurrent calls fail by MaxSessions and none works
after a drop. A server that forwards no sockets still runs commands, as `docker -H ssh://` itself does.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shlex
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit

from orchestrator.errors import HostUnreachable, InputError
from orchestrator.executors.children import ChildFailed, output_of, without_tokens
from orchestrator.executors.docker.dial import Dial, answers

REMOTE_SOCKET = "/var/run/docker.sock"
CONNECT_TIMEOUT_S = 15
ASK_TIMEOUT_S = 15
SAID_LIMIT_BYTES = 2**16
MOST_LOGINS = 3  # per connection
OPTIONS = {
    "BatchMode": "yes",  # never prompts: nobody may be there to answer
    "ClearAllForwardings": "yes",  # drops those of the user's configuration; ours is requested once the link is up
    "ConnectTimeout": "10",
    "ControlMaster": "yes",  # our own: later commands reuse the link without a second login
    "ControlPersist": "no",
    "ExitOnForwardFailure": "no",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "LogLevel": "INFO",  # its output becomes our message
    "RemoteCommand": "none",
    "ServerAliveCountMax": "3",
    "ServerAliveInterval": "5",  # a silent link is dropped after 15 s
    "StreamLocalBindMask": "0177",
    "StreamLocalBindUnlink": "yes",
    "Tunnel": "no",
}
# ssh's words for errors that a retry does not fix → the remedy.
REFUSALS = {
    "REMOTE HOST IDENTIFICATION HAS CHANGED": "if it is the same machine nevertheless, ssh-keygen -R its name",
    "Host key verification failed": "connect once by hand with ssh, and check its key",
    "Permission denied": "load the key into the agent (ssh-add), or name user and key in ~/.ssh/config",
    "Bad configuration option": "correct ~/.ssh/config",
    "Bad owner or permissions": "chmod 600 it",
    "Too many authentication failures": "name the right key with IdentityFile and IdentitiesOnly in ~/.ssh/config",
}
# ssh's words for errors that a retry may fix → the remedy if it does not.
HINTS = {
    "Could not resolve hostname": "fix: correct the name in `url`, or give it an address: a Host of that name with its "
    "HostName in ~/.ssh/config",
    "Connection refused": "fix: start its sshd, or name its port: ssh://user@host:port",
    "Connection timed out": "fix: see that it is up, and that no firewall is between",
}
# Runs ssh as a child that ends with us, however we end: only we hold the other end of its standard input. A line there
# ends ssh. If the input ends without one, we are gone: it removes the socket's folder as well. (Whether its parent is
# gone does not tell that for sure: a killed process closes its files before its children get a new parent.)
WATCHDOG = (
    'exec 3<&0; "$@" </dev/null 3<&- & s=$!; { read -r word <&3 || rm -rf "$0"; kill $s; } 2>/dev/null & '
    "wait $s; r=$?; kill $! 2>/dev/null; exit $r"
)
# Asks for a rootless engine's socket. Any shell must be able to run it, and its output is untrusted.
ROOTLESS = "sh -c 'echo \"socket=${DOCKER_HOST:-unix://${XDG_RUNTIME_DIR:-/run/user/$(id -u)}/docker.sock}\"'"
ROOTLESS_SOCKET = re.compile(r"socket=unix://(/[\w./@+-]{1,200})\s*$", re.ASCII | re.MULTILINE)


def command(url: SplitResult, control: Path) -> list[str]:
    """Returns the ssh command line that logs in and stays, for `through` to use. User and port come from `url` only."""
    options = [word for name, value in OPTIONS.items() for word in ("-o", f"{name}={value}")]
    port = ["-p", str(url.port)] if url.port else []
    user = ["-l", unquote(url.username)] if url.username else []
    return ["ssh", "-nNT", *options, "-o", f"ControlPath={control}", *port, *user, "--", _machine(url)]


def through(control: Path, *words: str) -> list[str]:
    """Returns an ssh command line that uses the link at `control` and never opens one of its own."""
    # a full or lost link must not become a login to a machine named `over`
    options = ["-o", f"ControlPath={control}", "-o", "ProxyCommand=exit 1", "-o", "BatchMode=yes"]
    return ["ssh", "-F", "none", "-T", *options, *words[:-1], "--", "over", *words[-1:]]


def forwarding(control: Path, local: Path, remote: str) -> list[str]:
    return through(control, "-O", "forward", "-L", f"{local}:{remote.replace('%', '%%')}", "")[:-1]


def dialling(url: SplitResult) -> str:
    """Returns the remote command that reaches the engine: at the socket in `url`, or else docker's own choice."""
    socket_there = f"-H {shlex.quote('unix://' + unquote(url.path))} " if url.path not in ("", "/") else ""
    return f"exec docker {socket_there}system dial-stdio"


def _machine(url: SplitResult) -> str:
    """Returns the host name as written: `hostname` is in lower case, and a Host line of ssh_config may not be."""
    name = url.netloc.rpartition("@")[2]
    return name[1:].partition("]")[0] if name.startswith("[") else name.partition(":")[0]


class Link:
    """One login: an ssh that stays, forwards sockets and runs commands."""

    def __init__(self, host_name: str, url: SplitResult, folder: Path) -> None:
        self.host_name, self.url, self._folder = host_name, url, folder
        self.sessions, self.room = 0, math.inf  # of dial-stdio: open now, and the server's limit
        own = Path(tempfile.mkdtemp(dir=folder))
        self.control, self._stderr = own / "c", own / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                ["sh", "-c", WATCHDOG, str(folder), *command(url, self.control)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                env=without_tokens(os.environ),
                start_new_session=True,  # Ctrl-C must not end it: we still query the containers' last states
            )

    @property
    def is_up(self) -> bool:
        return self._process.poll() is None

    @property
    def text(self) -> str:
        """Returns the end of ssh's output, bounded: a server may send endless banners."""
        with contextlib.suppress(OSError), self._stderr.open("rb") as said:
            said.seek(max(0, said.seek(0, os.SEEK_END) - SAID_LIMIT_BYTES))
            return said.read(SAID_LIMIT_BYTES).decode(errors="replace")
        return ""

    def said(self) -> str:
        """Returns ssh's last line, for a message."""
        lines = self.text.strip().splitlines()
        return lines[-1][:300] if lines else ""

    def wait(self) -> None:
        """Returns once it is logged in. Raises HostUnreachable, or InputError if a retry cannot help."""
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not self.control.exists():
            if not self.is_up:
                raise self.refused()
            if time.monotonic() > deadline:
                raise HostUnreachable(
                    f"host {self.host_name}: ssh did not connect in {CONNECT_TIMEOUT_S} s; {self.said()}"
                )
            time.sleep(0.02)

    def end(self) -> None:
        if self._process.stdin:
            with contextlib.suppress(OSError):  # it has ended
                self._process.stdin.write(b"end\n")  # the watchdog ends ssh
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def forward(self, local: Path, remote: str) -> bool:
        """Forwards the remote socket to `local`; returns whether it answers."""
        local.unlink(missing_ok=True)
        return self._done(forwarding(self.control, local, remote)) is not None and answers(local)

    def send_at_once(self) -> None:
        """Makes the server send small packets at once, in the background; one that runs no command stays as it is.

        sshd sets TCP_NODELAY on a login's connection only when it runs a command (strace, OpenSSH 9.2). Without it, the
        second of two small packets waits until the first is acknowledged, which this machine's kernel delays by 40 ms.
        """
        threading.Thread(target=self._done, args=(through(self.control, "exit"),), daemon=True).start()

    def rootless_socket(self) -> str | None:
        """Returns the remote user's rootless engine socket, if it is at the usual place."""
        found = ROOTLESS_SOCKET.search(self._done(through(self.control, ROOTLESS)) or "")
        return found[1] if found else None

    def _done(self, words: list[str]) -> str | None:
        """Returns a command's output; None if it failed."""
        with contextlib.suppress(ChildFailed):
            said = output_of(words, without_tokens(os.environ), ASK_TIMEOUT_S, SAID_LIMIT_BYTES)
            return said[-4096:].decode(errors="replace")
        return None

    def refused(self) -> InputError | HostUnreachable:
        text = self.text
        where = f"host {self.host_name}: ssh {self.url.netloc}"
        for sign, remedy in REFUSALS.items():
            if sign in text:
                return InputError(f"{where}: {self.said()}; {remedy}")
        hint = next((f"; {hint}" for sign, hint in HINTS.items() if sign in text), "")
        return HostUnreachable(f"{where}: {self.said() or 'ended without output'}{hint}")


class Forward:
    """A local socket to a remote engine, opened on first use and again after the link drops."""

    def __init__(self, host_name: str, url: str) -> None:
        self.host_name, self.url = host_name, urlsplit(url)
        # under /tmp, not TMPDIR: a socket's path has at most 108 bytes, 104 on macOS
        self._folder = Path(tempfile.mkdtemp(prefix="orc-", dir="/tmp"))
        self.socket = self._folder / "d.sock"
        self._links: list[Link] = []  # the first has the forward; others add sessions past one link's limit
        self._dial: Dial | None = None
        self._open = self._connected_once = False
        self._lock, self._linking = threading.Lock(), threading.Lock()
        self._failure: tuple[float, InputError | HostUnreachable] | None = None

    @property
    def dials(self) -> bool:
        """Whether each connection is a remote `docker system dial-stdio`."""
        return self._dial is not None

    def ensure(self) -> None:
        """Returns once the local socket is ready. Raises HostUnreachable, and InputError if a retry cannot help."""
        asked = time.monotonic()
        with self._lock:
            if self._open and self._links and self._links[0].is_up:
                return
            # a thread that waited shares another's failed try: threads do not queue up for a dead host
            if self._failure and self._failure[0] > asked:
                raise self._failure[1]
            try:
                self._start()
            except (InputError, HostUnreachable) as error:
                self._failure = (time.monotonic(), error)
                raise

    def said(self) -> str:
        """Returns the last line of ssh or of its remote command, for a message."""
        dial, links = self._dial, self._links[:1]
        return (dial.said if dial else "") or (links[0].said() if links else "")

    def close(self) -> None:
        with self._lock:
            self._end()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self) -> None:
        if not (self._links and self._links[0].is_up):
            self._end()
            self._links.append(self._logged_in())
            self._connected_once = True
        self._reach_engine(self._links[0])
        self._open = True

    def _logged_in(self) -> Link:
        if shutil.which("ssh") is None:
            raise InputError(
                f"host {self.host_name}: there is no ssh command on this machine; install an OpenSSH client"
            )
        link = Link(self.host_name, self.url, self._folder)
        try:
            link.wait()
        except (InputError, HostUnreachable) as error:
            link.end()
            # mid-run this is no input error any more, and other hosts' jobs go on
            raise HostUnreachable(str(error)) if self._connected_once else error from None
        return link

    def _reach_engine(self, link: Link) -> None:
        """Tries the forward, then docker's own dial-stdio. Raises HostUnreachable."""
        named = self.url.path not in ("", "/")
        if link.forward(self.socket, unquote(self.url.path) if named else REMOTE_SOCKET):
            link.send_at_once()
            return
        why = link.said()
        rootless = None if named else link.rootless_socket()
        if rootless and link.forward(self.socket, rootless):
            return
        self._dial = Dial(self.socket, self._sessions)
        if answers(self.socket):
            return
        said = self._dial.said
        self._close_dial()
        if not link.is_up:
            raise link.refused()
        raise HostUnreachable(self._unreached(why, said))

    def _unreached(self, why: str, said: str) -> str:
        tried = (
            f"host {self.host_name}: ssh {self.url.netloc}: forwarding the engine's socket failed "
            f"({why or 'no reason'}), and so did `docker system dial-stdio` over there ({said or 'no reason'})"
        )
        if "not found" in said:
            return (
                f"{tried}; fix: make `ssh {_machine(self.url)} docker version` work (docker on the PATH of shells "
                "without a terminal), or set AllowStreamLocalForwarding yes in its sshd_config"
            )
        return f"{tried}; is Docker running there, and may this user use its socket (usermod -aG docker USER)?"

    def _sessions(self) -> Generator[list[str], None, None]:
        """Yields command lines for one more dial-stdio, each over another link, until a link has room for it."""
        tried: list[Link] = []
        made = 0
        while made < MOST_LOGINS:  # a server may allow no session at all
            known = self._links[:]
            link = self._with_room(tried)
            if link is None:
                return
            made += link not in known
            tried.append(link)
            yield from self._session(link)

    def _with_room(self, tried: Sequence[Link]) -> Link | None:
        """Returns a link with room for one more session, and counts it; None if there is none."""
        with self._linking:
            if not (self._links and self._links[0].is_up):
                return None
            for link in [link for link in self._links if not link.is_up]:
                self._links.remove(link)
                link.end()
            room = min(link.room for link in self._links)  # all links share one server's limit
            for link in self._links:
                if link not in tried and link.sessions < room:
                    link.sessions += 1
                    return link
            try:
                link = self._logged_in()
            except (InputError, HostUnreachable):
                return None
            link.sessions, link.room = 1, room
            self._links.append(link)
            return link

    def _session(self, link: Link) -> Generator[list[str], None, None]:
        """Yields the session. A further request means that the server refused it by MaxSessions: the link is full."""
        try:
            yield through(link.control, dialling(self.url))
            with self._linking:
                link.room = min(link.room, max(1, link.sessions - 1))
        finally:
            with self._linking:
                link.sessions -= 1

    def _close_dial(self) -> None:
        if self._dial is not None:
            dial, self._dial = self._dial, None
            dial.close()

    def _end(self) -> None:
        self._open = False
        self._close_dial()
        with self._linking:
            links, self._links = self._links, []
        for link in links:
            link.end()
