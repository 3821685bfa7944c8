"""Calls a cluster's API with raw bodies and responses. Only this module translates refusals into our errors.

`context` provides credentials and TLS.
API: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import json
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias
from urllib.parse import urlencode

import urllib3

from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnfit, HostUnreachable, InputError
from orchestrator.executors.bounded_http import MALFORMED, ResponseTooLarge, chunks, unpacked
from orchestrator.executors.kubernetes.context import Access, resolve
from orchestrator.executors.kubernetes.kubeconfig import Unusable

CONNECT_TIMEOUT_S = 10
CALL_TIMEOUT_S = 60
# Of one page, which is one response; a pod has 6 to 10 kB.
PAGE_OBJECTS = 1000
# Values cost the memory: up to 120 bytes each as Python objects, and a normal response has one value per 18 bytes. The
# kept part of a whole list has the same bound as one response.
ANSWER_LIMIT_BYTES, ANSWER_LIMIT_VALUES = 64 * 2**20, 4 * 2**20
ANSWER_TIMEOUT_S = 120.0
REFUSAL_LIMIT_BYTES, LONGEST_MESSAGE = 2**20, 2000
# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/: what else a name might do in a path
NAME = re.compile(r"[a-z0-9]([-a-z0-9.:]*[a-z0-9])?", re.I)
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
# Servers that do not know a form send the whole object.
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
ONES_METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
Keep: TypeAlias = Callable[[dict[str, Any]], dict[str, Any]]
# Takes resource, name and the answered object; None: the server has deleted it.
Heard: TypeAlias = Callable[[str, str, "Mapping[str, Any] | None"], None]
# The user that an API server assumes when it ignores a caller's credentials.
ANONYMOUS = '"system:anonymous"'
EVERYONES = ("nodes", "namespaces")
GROUPS = {"jobs": "/apis/batch/v1"}  # all other resources that we use are in the core group


class Refused(HostUnfit):
    """The API server refused a call. code: HTTP's. reason: Kubernetes' word, such as AlreadyExists."""

    def __init__(self, message: str, code: int, reason: str) -> None:
        super().__init__(message)
        self.code, self.reason = code, reason


class Expired(HostUnreachable):
    """A version of a watch or a page of a list that the server no longer has (410): a new list is needed."""


class Cluster:
    """One namespace of a cluster, as one user. Safe to use from several threads.

    skew_s: how far the cluster's clock was ahead of ours at its last response; its stamps are in whole seconds.
    writes: number of finished calls, successful or not, that may have changed something. unclear: those of them whose
    effect is unknown. heard: called with each object that a call returned or deleted, before the call returns.
    """

    def __init__(self, host: KubernetesHost) -> None:
        self._host, self.host_name = host, host.name
        self.context = resolve(host)
        self.namespace = self.context.namespace
        self.skew_s = 0.0
        self.writes = self.unclear = 0
        self.heard: Heard = lambda resource, name, found: None
        self._access: Access | None = None
        self._lock = threading.Lock()
        self._refused: tuple[float, Unusable] | None = None
        self._has_answered = False
        self._secrets: Sequence[str] = ()

    @property
    def contexts_own(self) -> str:
        """The namespace of jobs if the host names none."""
        return resolve(self._host.model_copy(update={"namespace": None})).namespace

    def path(self, resource: str, name: str = "", sub: str = "") -> str:
        """Returns the URL path of a resource: within the namespace, except for nodes and namespaces."""
        if name and not NAME.fullmatch(name):
            raise self.misread(ValueError(f"no object has the name {name!r}"))
        folder = GROUPS.get(resource, "/api/v1")
        where = "" if resource in EVERYONES else f"/namespaces/{self.namespace}"
        return "/".join(part for part in (f"{folder}{where}/{resource}", name, sub) if part)

    def get(self, resource: str, name: str) -> dict[str, Any] | None:
        """Returns an object; None if there is none."""
        try:
            found = self.call("GET", self.path(resource, name))
        except Refused as refusal:
            if refusal.code == 404:
                return None
            raise
        self.heard(resource, name, found)
        return found

    def items(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON, keep: Keep | None = None
    ) -> list[dict[str, Any]]:
        """Returns all objects of a list, as of the time when its first page was read.

        accept: METADATA_ONLY fetches only each object's metadata. keep: returns the part of an object to keep; without
        it a large cluster's pods or nodes need too much memory.
        """
        return self.versioned(path, query, accept=accept, keep=keep)[0]

    def versioned(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON, keep: Keep | None = None
    ) -> tuple[list[dict[str, Any]], str]:
        """As `items`, with the version from which a watch continues the list.

        The server compresses pages of more than 128 kB (objects that are much alike: to a twentieth), but no watch.
        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks
        """
        found: list[dict[str, Any]] = []
        asked, room = {"limit": str(PAGE_OBJECTS), **(query or {})}, _Room()
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while True:
            with self.stream("GET", path, asked, accept=accept, packed=True) as response:
                page = _object(_read(response), _Room() if keep else room)
                items = [{**each} for each in page.get("items") or ()]
                if keep:
                    items = [keep(each) for each in items]
                    room.take(json.dumps(items).encode())
                found += items
                metadata = page.get("metadata") or {}
                asked["continue"] = metadata.get("continue") or ""
                if not asked["continue"]:
                    return found, str(metadata.get("resourceVersion") or "")
                if time.monotonic() > deadline:
                    raise ResponseTooLarge(f"a list that is not complete after {ANSWER_TIMEOUT_S:.0f} s")

    def list(
        self, resource: str, query: Mapping[str, str] | None = None, *, accept: str = JSON, keep: Keep | None = None
    ) -> list[dict[str, Any]]:
        return self.items(self.path(resource), query, accept=accept, keep=keep)

    def create(self, resource: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Creates an object and returns its metadata."""
        made = self.call("POST", self.path(resource), body=body, accept=ONES_METADATA)
        self.heard(resource, body["metadata"]["name"], made)
        return made

    def patch(self, resource: str, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Changes an object and returns its metadata."""
        now = self.call("PATCH", self.path(resource, name), body=body, accept=ONES_METADATA, content=MERGE_PATCH)
        self.heard(resource, name, now)
        return now

    def delete(self, resource: str, name: str, uid: str | None = None) -> None:
        """Deletes an object and what it owns. Succeeds if it does not exist or has another uid."""
        body: dict[str, Any] = {"propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            left = self.call("DELETE", self.path(resource, name), body=body, accept=ONES_METADATA)
        except Refused as refusal:
            # a failed precondition also answers 409
            if refusal.code != 404 and not (refusal.code == 409 and refusal.reason == "Conflict"):
                raise
            return
        # an object in place of a status: it stays until its finalizers are done
        self.heard(resource, name, None if left.get("kind") == "Status" else left)

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        accept: str = JSON,
        content: str = JSON,
    ) -> dict[str, Any]:
        """Makes one call and returns its response. Raises Refused, HostUnreachable, and InputError for credentials."""
        try:
            with self.stream(method, path, query, body, accept=accept, content=content) as response:
                return _object(_read(response), _Room())
        except HostUnreachable:
            if method != "GET":
                self.unclear += 1
            raise
        finally:
            if method != "GET":
                with self._lock:
                    self.writes += 1

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        accept: str = JSON,
        content: str = JSON,
        silence_s: float = CALL_TIMEOUT_S,
        packed: bool = False,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Opens a response for a watch or a log. silence_s: after so long without a byte it counts as broken.

        packed: the body may be compressed.
        """
        try:
            response = self._sent(method, path, query, body, accept, content, silence_s, packed)
            try:
                self._judge(response, path)
                yield response
            finally:
                response.close()
        except (urllib3.exceptions.HTTPError, OSError, ssl.SSLError) as error:
            raise self._unreachable(error) from error
        except MALFORMED as error:
            raise self.misread(error) from error

    @contextmanager
    def understood(self) -> Iterator[None]:
        """Wraps the parsing of responses: a malformed one becomes HostUnreachable."""
        try:
            yield
        except MALFORMED as error:
            raise self.misread(error) from error

    def misread(self, error: Exception) -> HostUnreachable:
        where = f"host {self.host_name}, context {self.context.name}"
        said = f"{type(error).__name__}: {self._censored(str(error))[:200]}"
        return HostUnreachable(f"{where}: its API server sent a malformed response ({said})")

    def _sent(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Mapping[str, Any] | None,
        accept: str,
        content: str,
        silence_s: float,
        packed: bool,
    ) -> urllib3.BaseHTTPResponse:
        for last in (False, True):
            access = self._reached()
            headers = urllib3.HTTPHeaderDict({"Accept": accept, "Content-Type": content})
            headers["User-Agent"] = "sd-orchestrator"
            if packed and access.compresses:
                headers["Accept-Encoding"] = "gzip"
            for name, value in access.login.headers:
                headers.add(name, value)
            response = access.pool.request(
                method,
                access.server + path + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=silence_s),
                retries=False,
                redirect=False,  # no API server redirects; following one would send the token elsewhere
                preload_content=False,
                decode_content=False,
            )
            if response.status != 401 or last:
                break
            response.close()
            self._forget(access)  # its token has expired: the file or the plugin has a new one by now
        return response

    def _reached(self) -> Access:
        """Returns the current access. No call is made without the credentials that the kubeconfig names.

        Raises InputError, or HostUnreachable if they worked before: the next call loads them again.
        """
        asked = time.monotonic()
        with self._lock:
            before = self._access
            if before is not None and not before.is_stale():
                return before
            try:
                if self._refused and self._refused[0] >= asked:  # another thread's load failed while we waited
                    raise self._refused[1]
                self._access = self.context.access(before)
            except Unusable as error:
                self._refused = time.monotonic(), error
                kind = HostUnreachable if self._has_answered else InputError
                message = self._censored(str(error))
                raise kind(f"host {self.host_name}, context {self.context.name}: no credentials: {message}") from error
            self._secrets = self._access.login.secrets
            return self._access

    def _forget(self, access: Access) -> None:
        with self._lock:
            if self._access is access:
                self._access = None

    def _judge(self, response: urllib3.BaseHTTPResponse, path: str) -> None:
        """Raises the error that an unsuccessful response calls for."""
        if date := response.headers.get("Date"):
            self.skew_s = parsedate_to_datetime(date).timestamp() - time.time()
        if 200 <= response.status < 300:
            self._has_answered = True
            return
        message, reason = map(self._censored, _said(response))
        where = f"host {self.host_name}, context {self.context.name}"
        if response.status == 401 or (response.status == 403 and ANONYMOUS in message):
            remedy = f"kubectl --context {self.context.name} get pods tells more"
            kind = HostUnreachable if self._has_answered else InputError
            raise kind(f"{where}: the cluster does not accept your credentials ({message}); {remedy}")
        if response.status in (410, 429) or response.status >= 500:
            kind = Expired if response.status == 410 else HostUnreachable
            raise kind(f"{where}: its API server says: {message} ({response.status})")
        if response.status == 403 and reason == "Forbidden" and "cannot" in message:
            message += "; ask the cluster's admin for that right"
            if f"/namespaces/{self.namespace}/" in path:  # a 403 does not tell whether it exists
                message += f", or correct `namespace`, where {self.namespace} is not meant"
        raise Refused(f"{where}: {message}", response.status, reason)

    def _unreachable(self, error: Exception) -> HostUnreachable | InputError:
        where = f"host {self.host_name}, context {self.context.name}"
        chain = [error, error.__cause__, error.__context__, *error.args]
        tls = next((e for e in chain if isinstance(e, ssl.SSLCertVerificationError)), None)
        if tls is not None and not self._has_answered:
            return InputError(f"{where}: its certificate is not trusted: {tls.verify_message}")
        endless = next((e for e in chain if isinstance(e, ResponseTooLarge)), None)
        if endless is not None:
            return HostUnreachable(f"{where}: its API server gives {endless}")
        return HostUnreachable(f"{where}: its API server did not answer: {self._censored(str(error))}")

    def _censored(self, said: str) -> str:
        """Masks our secrets in a text: some proxies echo what they received."""
        for secret in self._secrets:
            said = said.replace(secret, "[token]")
        return said

    def close(self) -> None:
        with self._lock:
            if self._access is not None:
                self._access.pool.clear()
                self._access = None


class _Room:
    """The remaining budget of bytes and values, for one response or all pages of a list."""

    def __init__(self) -> None:
        self.bytes, self.values = ANSWER_LIMIT_BYTES, ANSWER_LIMIT_VALUES

    def take(self, body: bytes) -> None:
        """Takes a response's share. Raises ResponseTooLarge if the budget is too small."""
        self.bytes -= len(body)
        self.values -= sum(body.count(mark) for mark in (b",", b"{", b"["))
        if self.bytes < 0 or self.values < 0:
            raise ResponseTooLarge("an answer that has too many values")


def _read(response: urllib3.BaseHTTPResponse, limit_bytes: int = ANSWER_LIMIT_BYTES) -> bytes:
    body = chunks(response, ANSWER_TIMEOUT_S, limit_bytes)
    is_packed = response.headers.get("Content-Encoding") == "gzip"
    return b"".join(unpacked(body, limit_bytes) if is_packed else body)


def _said(response: urllib3.BaseHTTPResponse) -> tuple[str, str]:
    """Returns message and reason of a refusal: from a Status object, or from the text of a proxy in between."""
    said = _read(response, REFUSAL_LIMIT_BYTES)
    try:
        status = _object(said, _Room())
        return str(status["message"])[:LONGEST_MESSAGE], str(status.get("reason") or "")
    except MALFORMED:
        return said[:300].decode(errors="replace").strip() or str(response.reason), ""


def _object(body: bytes, room: _Room) -> dict[str, Any]:
    """Parses a JSON object. Raises one of MALFORMED if it is none, ResponseTooLarge if it exceeds the budget."""
    room.take(body)
    found = json.loads(body)
    if not isinstance(found, dict):
        raise TypeError(f"a {type(found).__name__} and no object")
    return found
