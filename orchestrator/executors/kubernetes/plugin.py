"""Runs a kubeconfig's `exec` plugin like kubectl, with bounds, and checks its output.

Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from orchestrator.executors.children import ChildFailed, output_of, without_tokens
from orchestrator.executors.kubernetes.kubeconfig import Named, Unusable
from orchestrator.sanitize import harmless

TIMEOUT_S = 60.0
ANSWER_LIMIT_BYTES = 2**20
SAID_LIMIT_CHARS = 500
VERSIONS = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
EXTENSION = "client.authentication.k8s.io/exec"


@dataclass(frozen=True)
class Issued:
    """A plugin's credentials: a token, a client certificate with its key, or both. expires: None is never."""

    token: str
    certificate: bytes | None
    key: bytes | None
    expires: datetime | None


def run(user: Named, cluster: Named, environ: Mapping[str, str] = os.environ) -> Issued:
    """Runs the plugin. Raises Unusable, with the plugin's own words, if it gives no usable credential."""
    exec_ = user.fields["exec"]
    if not isinstance(exec_, dict):
        raise Unusable(f"{user.what}: exec: expected command, args, env and apiVersion")
    plugin = Named(f"{user.what}: exec", exec_, user.folder)
    version, command = plugin.text("apiVersion"), plugin.text("command")
    if version not in VERSIONS:
        raise Unusable(
            f"{plugin.what}: apiVersion {version!r} is not {' or '.join(VERSIONS)}; update the plugin and write this "
            "entry again (aws eks update-kubeconfig, gcloud container clusters get-credentials, …)"
        )
    if plugin.text("interactiveMode") == "Always":
        raise Unusable(f"{plugin.what}: interactiveMode Always needs a terminal, which no run has; use IfAvailable")
    program = _program(plugin, command, environ)
    child = {**without_tokens(environ), **_variables(plugin), "KUBERNETES_EXEC_INFO": _info(plugin, cluster, version)}
    try:
        said = output_of([program, *plugin.texts("args")], child, TIMEOUT_S, ANSWER_LIMIT_BYTES)
    except ChildFailed as error:
        raise Unusable(f"{plugin.what}: {command} {error}") from error
    return _issued(said, version, plugin.what, command)


def _program(plugin: Named, command: str, environ: Mapping[str, str]) -> str:
    """Returns the command's absolute path: relative to the kubeconfig if it has a slash, else found on PATH."""
    if not command:
        raise Unusable(f"{plugin.what}: there is no command")
    found = str(plugin.folder / command) if "/" in command else shutil.which(command, path=environ.get("PATH"))
    if found is None or not os.path.isabs(found) or not os.access(found, os.X_OK):
        hint = harmless(plugin.text("installHint"), SAID_LIMIT_CHARS)
        raise Unusable(f"{plugin.what}: there is no program {command!r}; install it{f' ({hint})' if hint else ''}")
    return found


def _variables(plugin: Named) -> dict[str, str]:
    listed = plugin.fields.get("env") or []
    try:
        return {str(each["name"]): str(each.get("value") or "") for each in listed}
    except (TypeError, KeyError, AttributeError):
        raise Unusable(f"{plugin.what}: env: expected a list of name and value") from None


def _info(plugin: Named, cluster: Named, version: str) -> str:
    spec: dict[str, Any] = {"interactive": False}
    if plugin.flag("provideClusterInfo"):
        authority = cluster.material("certificate-authority")
        fields = ("server", "tls-server-name", "insecure-skip-tls-verify", "proxy-url", "disable-compression")
        spec["cluster"] = {key: cluster.fields[key] for key in fields if cluster.fields.get(key)}
        if authority is not None:
            spec["cluster"]["certificate-authority-data"] = base64.b64encode(authority).decode()
        for each in cluster.fields.get("extensions") or ():
            if isinstance(each, dict) and each.get("name") == EXTENSION:
                spec["cluster"]["config"] = each.get("extension")
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec}, default=str)


def _issued(answer: bytes, version: str, what: str, name: str) -> Issued:
    # the output holds the credential: no message quotes it
    try:
        whole = json.loads(answer)
        kind, answered, status = whole["kind"], whole["apiVersion"], whole["status"]
        token = str(status.get("token") or "").strip()
        certificate, key = (str(status.get(f"client{part}Data") or "") for part in ("Certificate", "Key"))
        stamp = status.get("expirationTimestamp")
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise Unusable(
            f"{what}: {name} printed no ExecCredential with a status; "
            "fix: run the command by hand: it must print nothing else on standard output"
        ) from None
    if (kind, answered) != ("ExecCredential", version):
        raise Unusable(f"{what}: {name} answered with another kind or version than ExecCredential of {version}")
    try:
        expires = None if stamp is None else _time(str(stamp))
    except (ValueError, OverflowError):
        raise Unusable(
            f"{what}: {name} printed an ExecCredential whose expirationTimestamp is not a time; "
            "fix: update the plugin, or correct it: expected RFC 3339, such as 2026-01-31T12:00:00Z"
        ) from None
    if bool(certificate) != bool(key):
        raise Unusable(f"{what}: {name} printed a client certificate without its key, or a key alone")
    if not token and not certificate:
        raise Unusable(f"{what}: {name} printed neither a token nor a client certificate")
    return Issued(token, certificate.encode() or None, key.encode() or None, expires)


def _time(stamp: str) -> datetime:
    found = datetime.fromisoformat(stamp[:19])  # Python 3.10 reads no fractions of another length than 3 or 6, and no Z
    rest = stamp[19:].lstrip(".0123456789")
    offset = datetime.fromisoformat(f"{stamp[:19]}{rest}").utcoffset() if rest not in ("", "Z", "z") else None
    return (found - offset if offset else found).replace(tzinfo=timezone.utc)
