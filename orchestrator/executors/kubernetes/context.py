"""Resolves a host entry to a cluster: a kubeconfig context, or the pod that we run in. Never a silent default.

Every field of a kubeconfig is used as kubectl uses it, or refused with a message.
"""

from __future__ import annotations

import contextlib
import os
import re
import ssl
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3

from orchestrator.config import KubernetesHost
from orchestrator.config.address import is_loopback
from orchestrator.config.problems import nearest
from orchestrator.errors import InputError
from orchestrator.executors.kubernetes import kubeconfig, login, proxies
from orchestrator.executors.kubernetes.kubeconfig import Kubeconfig, Named, Unusable
from orchestrator.executors.kubernetes.login import Login

POOL_SIZE = 64
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Access:
    """An API server's address (without a trailing slash), the connections to it, and the caller's identity.

    compresses: whether lists may arrive compressed.
    """

    server: str
    pool: urllib3.PoolManager
    login: Login
    compresses: bool = True

    def is_stale(self) -> bool:
        return self.login.is_stale(datetime.now(timezone.utc))


@dataclass(frozen=True)
class Context:
    """The API's address and how to log in.

    access: reads the credentials again, because a token may have been renewed; reuses the connections of an earlier
    access if they are the same. Raises Unusable.
    """

    name: str
    namespace: str
    access: Callable[[Access | None], Access]


def resolve(host: KubernetesHost, environ: Mapping[str, str] = os.environ) -> Context:
    """Finds the host's context. Raises InputError with the known names if it does not exist."""
    paths = kubeconfig.files(environ)
    if not paths and host.context is None and "KUBERNETES_SERVICE_HOST" in environ:
        return _in_cluster(host, environ)
    shown = environ.get("KUBECONFIG") or "~/.kube/config"
    if not paths:
        raise InputError(
            f"host {host.name}: there is no kubeconfig {shown}; set KUBECONFIG, or ask the cluster's admin for one"
        )
    try:
        found = kubeconfig.read(paths)
        name = host.context or found.current
        return _of_kubeconfig(host, paths, found, name, shown, environ)
    except Unusable as error:
        raise InputError(f"host {host.name}: kubeconfig {error}") from error


def _of_kubeconfig(
    host: KubernetesHost,
    paths: Sequence[Path],
    found: Kubeconfig,
    name: str,
    shown: str,
    environ: Mapping[str, str],
) -> Context:
    known = nearest(name, found.contexts)
    if not name:
        raise InputError(
            f"host {host.name}: kubeconfig {shown} has no current context; give the host one: context: NAME{known}"
        )
    if name not in found.contexts:
        raise InputError(f"host {host.name}: kubeconfig {shown} has no context {name!r}{known}")
    context = found.contexts[name]
    cluster = _entry(context, "cluster", found.clusters)
    _entry(context, "user", found.users)
    _proxy(cluster, environ)

    def access(before: Access | None = None) -> Access:
        """Reads the user again: a renewed credential may be written into the file."""
        user = _entry(context, "user", kubeconfig.read(paths).users)
        return _access(cluster, login.load(user, cluster, datetime.now(timezone.utc)), environ, before)

    return Context(name, host.namespace or context.text("namespace") or "default", access)


def _entry(context: Named, kind: str, found: Mapping[str, Named]) -> Named:
    name = context.text(kind)
    if not name:
        raise Unusable(f"{context.what} names no {kind}")
    if name not in found:
        raise Unusable(f"{context.what}: there is no {kind} {name!r}{nearest(name, found)}")
    return found[name]


def _access(cluster: Named, as_whom: Login, environ: Mapping[str, str], before: Access | None) -> Access:
    if before and (before.login.certificate, before.login.key) == (as_whom.certificate, as_whom.key):
        return replace(before, login=as_whom)
    server = _server(cluster)
    tls = _tls(cluster, as_whom) if server.scheme == "https" else None
    options: dict[str, Any] = {
        "maxsize": POOL_SIZE,
        **({} if tls is None else {"ssl_context": tls, "cert_reqs": tls.verify_mode}),
        **({"assert_hostname": False} if tls is not None and not tls.check_hostname else {}),
        **({"server_hostname": name} if tls is not None and (name := cluster.text("tls-server-name")) else {}),
    }
    proxy = _proxy(cluster, environ)
    compresses = not cluster.flag("disable-compression")
    if proxy is None:
        return Access(server.geturl(), urllib3.PoolManager(**options), as_whom, compresses)
    if server.scheme == "http" and sum(name == "Impersonate-Group" for name, _ in as_whom.headers) > 1:
        raise Unusable(f"{cluster.what}: several as-groups cannot be sent to an http server through a proxy")
    headers = urllib3.make_headers(proxy_basic_auth=proxy.login) if proxy.login else None
    pool = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **options)
    return Access(server.geturl(), pool, as_whom, compresses)


def _server(cluster: Named) -> SplitResult:
    """Parses the server's address. Raises Unusable if it is invalid, or would get a token without TLS."""
    url = cluster.text("server")
    what = f"{cluster.what}: server"
    if not url:
        raise Unusable(f"{what} is not set; write https://host:port")
    if "://" not in url:  # kubectl uses TLS if the entry has TLS settings
        about_tls = ("certificate-authority", "certificate-authority-data", "insecure-skip-tls-verify")
        url = f"{'https' if any(cluster.fields.get(key) for key in about_tls) else 'http'}://{url}"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise Unusable(f"{what} is not an address; write https://host:port") from None
    if parts.username is not None:
        raise Unusable(f"{what} must hold no user or password; give them to the user's entry")
    if parts.scheme not in ("http", "https") or not parts.hostname or not re.fullmatch(r"[!-~]+", url):
        raise Unusable(f"{what} is not an API server's address; write https://host:port")
    if parts.query or parts.fragment:
        raise Unusable(f"{what} holds a query or a fragment; write https://host:port/path")
    if parts.scheme == "http" and not is_loopback(url):
        raise Unusable(f"{what} {url} would have your credentials sent in the clear; write https://host:port")
    return parts._replace(path=parts.path.rstrip("/"))


def _proxy(cluster: Named, environ: Mapping[str, str]) -> proxies.Proxy | None:
    try:
        if named := cluster.text("proxy-url"):
            return proxies.parse(named, f"{cluster.what}: proxy-url")
        return proxies.from_environment(_server(cluster), environ)
    except ValueError as error:
        raise Unusable(str(error)) from None


def _tls(cluster: Named, as_whom: Login) -> ssl.SSLContext:
    """Trusts only the entry's CA, or this machine's CAs if the entry names none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority = cluster.material("certificate-authority")
    if cluster.flag("insecure-skip-tls-verify"):
        if authority is not None:
            raise Unusable(f"{cluster.what}: certificate-authority and insecure-skip-tls-verify cannot be combined")
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # the user asked for it
    elif authority is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(cadata=authority.decode("ascii"))
        except (ssl.SSLError, ValueError) as error:
            raise Unusable(f"{cluster.what}: certificate-authority is not a PEM file with a certificate") from error
    if as_whom.certificate is not None:
        _present(context, as_whom.certificate, as_whom.key or b"", cluster)
    return context


def _present(context: ssl.SSLContext, certificate: bytes, key: bytes, cluster: Named) -> None:
    """Loads a client certificate. The ssl module reads files only, so it uses a private temporary one."""

    def no_passphrase() -> str:
        raise Unusable("the client's key is protected by a passphrase; write one without: openssl rsa -in KEY -out NEW")

    with contextlib.ExitStack() as stack:
        names = []
        for content in (certificate, key):
            file = stack.enter_context(tempfile.NamedTemporaryFile())  # 0600
            file.write(content)
            file.flush()
            names.append(file.name)
        try:
            context.load_cert_chain(names[0], names[1], no_passphrase)
        except (ssl.SSLError, ValueError) as error:
            reason = getattr(error, "reason", None) or "not PEM"
            raise Unusable(
                f"the client's certificate and key for {cluster.what} do not belong together, or are not PEM ({reason})"
            ) from error


def _in_cluster(host: KubernetesHost, environ: Mapping[str, str]) -> Context:
    name, port = environ["KUBERNETES_SERVICE_HOST"], environ.get("KUBERNETES_SERVICE_PORT") or "443"
    server = f"https://{f'[{name}]' if ':' in name else name}:{port}"
    fields = {"server": server, "certificate-authority": "ca.crt"}
    cluster = Named("this pod's cluster", fields, SERVICE_ACCOUNT)

    def access(before: Access | None = None) -> Access:
        as_whom = login.from_service_account(SERVICE_ACCOUNT, datetime.now(timezone.utc))
        return _access(cluster, as_whom, environ, before)

    own = SERVICE_ACCOUNT / "namespace"
    namespace = environ.get("POD_NAMESPACE") or (own.read_text().strip() if own.exists() else "") or "default"
    return Context("(this pod's)", host.namespace or namespace, access)
