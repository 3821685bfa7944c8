"""Addresses of engines (`ssh://`, `unix://`, `tcp://`) and of object stores, checked before anything connects."""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
# What the user's ssh configuration would hand to a shell (`ProxyCommand`, `Match exec`), as `%h` or `%r`.
NOT_FOR_SSH = re.compile(r"[^\w.:/@%~+\[\]-]", re.ASCII)


def check_url(url: str) -> None:
    """Raises ValueError with what to write instead."""
    forms = "write ssh://user@host, unix:///path/docker.sock or tcp://host:port"
    # first of all, for every other message repeats the address
    if re.search(r"//[^/@]*:[^/]*@", url):
        raise ValueError("must hold no password; use a key, by the ssh agent or ~/.ssh/config")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not an address ({error}); {forms}") from None
    if not url.isprintable() or " " in url or parts.query or parts.fragment:
        raise ValueError(f"{url!r} is not an engine's address; {forms}")
    host = parts.hostname or ""
    match parts.scheme:
        case "unix":
            if parts.netloc or not parts.path.strip("/"):
                raise ValueError(f"{url!r} names no absolute path; write unix:///path/docker.sock, with three slashes")
        case "ssh":
            if not host or host.startswith("-") or (parts.username or "").startswith("-"):
                raise ValueError(f"{url!r} names no machine; write ssh://user@host")
            if found := NOT_FOR_SSH.search(url):
                raise ValueError(f"{url!r} holds {found[0]!r}, which is of no machine's name, user or path for ssh")
        case "tcp":
            if parts.username is not None:
                raise ValueError("must name no user: a tcp:// engine knows its users by tls")
            if not host or port is None or parts.path.strip("/"):
                raise ValueError(f"{url!r} is not tcp://host:port; the port of an engine with TLS is usually 2376")
        case "http" | "https":
            raise ValueError(f"{url!r}: an engine over the network is tcp://host:port with tls")
        case _:
            raise ValueError(f"{url!r} is not an engine's address; {forms}")


def endpoint(url: str) -> str:
    """Of an object store, without a last slash and a default port. Raises ValueError with what to write instead."""
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
    """Whether others than this machine's users could read what is sent there."""
    return urlsplit(url).scheme == "http" and not is_loopback(url)


def is_loopback(url: str) -> bool:
    """Whether nobody outside this machine can reach it."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
