"""Validates addresses of engines (`ssh://`, `unix://`, `tcp://`) and object stores before anything connects."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
# The parts that the user's ssh configuration may pass to a shell (`ProxyCommand`, `Match exec`), as `%h` or `%r`.
NOT_FOR_SSH = re.compile(r"[^\w.:@~+\[\]-]", re.ASCII)
# A socket's path may also hold a space, as %20, but nothing that ssh or the remote shell would interpret.
NOT_IN_PATH = re.compile(r"[^\w./@%~+ -]", re.ASCII)
LOCAL_SOCKET = "unix:///var/run/docker.sock"
PLAIN_PORT, TLS_PORT = 2375, 2376
FORMS = "write ssh://user@host, unix:///path/docker.sock or tcp://host:port"


def engine_url(text: str, *, tls: bool = False) -> str:
    """Parses an engine's address like docker's command line, and fills in omitted parts: socket, machine, port.

    Raises ValueError that says what to write instead. https://github.com/docker/cli/blob/master/opts/hosts.go
    """
    url = text.strip()
    # check this first, because every other message repeats the address
    if re.search(r"//[^/@]*:[^/]*@", url):
        raise ValueError("must hold no password; use a key, by the ssh agent or ~/.ssh/config")
    if not url.isprintable():
        raise ValueError(f"{url!r} is not an engine's address; {FORMS}")
    scheme, separator, rest = url.partition("://")
    if not separator and re.fullmatch(r"[\w.-]*:\d+|\[[\w:.]+\]:\d+", url, re.ASCII):
        scheme, rest = "tcp", url
    match scheme:
        case "unix":
            return _unix(rest)
        case "ssh":
            return _ssh(url)
        case "tcp":
            return _tcp(f"tcp://{rest}", TLS_PORT if tls else PLAIN_PORT)
        case "http" | "https":
            raise ValueError(f"{url!r}: an engine over the network is tcp://host:port with tls")
        case "npipe":
            raise ValueError(
                f"{url!r}: a named pipe of Windows; run this in WSL with Docker's integration, or use ssh://"
            )
        case "fd":
            raise ValueError(f"{url!r}: a socket that systemd hands to dockerd, and no client can use; {FORMS}")
    raise ValueError(f"{url!r} is not an engine's address; {FORMS}")


def _unix(path: str) -> str:
    if not path:
        return LOCAL_SOCKET
    if not path.startswith("/") or not path.strip("/"):
        url = f"unix://{path}"
        raise ValueError(f"{url!r} names no absolute path; write unix:///path/docker.sock, with three slashes")
    return f"unix://{path}"  # unchanged: docker does not decode %20 here, and a path may hold a space


def _ssh(url: str) -> str:
    parts = _split(url)
    user, path = unquote(parts.username or ""), unquote(parts.path)
    if not parts.hostname or parts.hostname.startswith("-") or user.startswith("-"):
        raise ValueError(f"{url!r} names no machine; write ssh://user@host")
    if parts.query or parts.fragment or " " in url:
        raise ValueError(f"{url!r} is not an engine's address; {FORMS}")
    found = NOT_FOR_SSH.search(user + parts.netloc.rpartition("@")[2]) or NOT_IN_PATH.search(path)
    if found:
        raise ValueError(f"{url!r} holds {found[0]!r}, which is of no machine's name, user or path for ssh")
    return url


def _tcp(url: str, port: int) -> str:
    parts = _split(url)
    if parts.username is not None:
        raise ValueError("must name no user: a tcp:// engine identifies its users by tls")
    if " " in url or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not tcp://host:port; the port of an engine with TLS is usually 2376")
    host = parts.hostname or "127.0.0.1"
    bracketed = f"[{host}]" if ":" in host else host
    return f"tcp://{bracketed}:{parts.port or port}{parts.path.rstrip('/')}"


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address ({error}); {FORMS}") from None
    return parts


def endpoint(url: str) -> str:
    """Normalises an object store's address: no trailing slash, no default port. Raises ValueError with the fix."""
    form = "write https://host[:port][/path]"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address ({error}); {form}") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must hold no key; give it to boto3, by a profile or AWS_ACCESS_KEY_ID and its secret")
    if parts.scheme not in ("http", "https") or not parts.hostname or re.search(r"[\s\x00-\x1f]", url):
        raise ValueError(f"{url!r} is not a store's address; {form}")
    if parts.query or parts.fragment:
        raise ValueError(f"{url!r} holds more than an address; {form}, and the bucket in `bucket`")
    netloc = parts.netloc.rpartition(":")[0] if port == DEFAULT_PORTS[parts.scheme] else parts.netloc.rstrip(":")
    return parts._replace(netloc=netloc, path=parts.path.rstrip("/")).geturl()


def is_in_the_clear(url: str) -> bool:
    """Whether traffic to the address is unencrypted and leaves this machine."""
    return urlsplit(url).scheme == "http" and not is_loopback(url)


def is_loopback(url: str) -> bool:
    """Whether only this machine can reach the address."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
