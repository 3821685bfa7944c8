"""Chooses the proxy of a call like kubectl (Go's golang.org/x/net/http/httpproxy).

Source: https://pkg.go.dev/golang.org/x/net/http/httpproxy
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy. url: without its login, safe to show. login: `user:password`, or empty."""

    url: str
    login: str = field(default="", repr=False)


def from_environment(server: SplitResult, environ: Mapping[str, str]) -> Proxy | None:
    """Returns HTTPS_PROXY for an https server, HTTP_PROXY for an http one, None if NO_PROXY names the server.

    A server on this machine never uses a proxy. Raises ValueError with what to write instead.
    """
    variable = f"{server.scheme.upper()}_PROXY"
    value = environ.get(variable) or environ.get(variable.lower()) or ""
    no_proxy = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    port = server.port or DEFAULT_PORTS[server.scheme]
    if not value or not _is_proxied(server.hostname or "", port, no_proxy):
        return None
    return parse(value, variable)


def parse(value: str, source: str) -> Proxy:
    """Parses a proxy. source: the setting that named it, for messages. Raises ValueError with what to write instead."""
    text = value.strip()
    if "://" not in text:
        text = f"http://{text}"
    form = f"{source}: write http://host:port or https://host:port"
    try:
        parts = urlsplit(text)
        _ = parts.port
    except ValueError:
        raise ValueError(f"{form}; the value is not an address") from None
    if parts.scheme.startswith("socks"):
        raise ValueError(f"{form}; {parts.scheme}:// proxies are not supported")
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError(f"{form}; the value is not the address of a proxy")
    login = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if parts.username else ""
    return Proxy(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}", login)


def _is_proxied(host: str, port: int, no_proxy: str) -> bool:
    host = host.lower().strip()
    address = _address(host)
    if host == "localhost" or (address is not None and address.is_loopback):
        return False
    return not any(_matches(entry.strip().lower(), host, address, port) for entry in no_proxy.split(","))


def _matches(entry: str, host: str, address: ipaddress.IPv4Address | ipaddress.IPv6Address | None, port: int) -> bool:
    """Matches a NO_PROXY entry: `*`, an address, a network (CIDR), a domain; address and domain may have a port."""
    if entry in ("", "*"):
        return entry == "*"
    if "/" in entry:
        try:
            network = ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
        return address is not None and address in network
    name, wanted_port = _split_port(entry)
    if not name or (wanted_port and wanted_port != str(port)):
        return False
    if (wanted := _address(name)) is not None:
        return address == wanted
    name = name.removeprefix("*")  # `*.example.com` is `.example.com`: only the domains below it
    return host.endswith(name) if name.startswith(".") else host == name or host.endswith(f".{name}")


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        name, _, port = entry[1:].partition("]")
        return name, port.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(found, "ipv4_mapped", None) or found
