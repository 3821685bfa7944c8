"""Reads Docker's own config.json: registry logins, container proxies, the current context.

The file is read only when it is needed, so that an error in it stops only what depends on it. Format:
https://docs.docker.com/reference/cli/docker/#configuration-files and https://github.com/docker/docker-credential-helpers
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.errors import InputError
from orchestrator.executors.children import without_tokens
from orchestrator.sanitize import printable

HUB = "https://index.docker.io/v1/"  # Docker Hub's key in config.json and in the engine's own tables
HUB_NAMES = ("docker.io", "index.docker.io", "registry-1.docker.io")
HELPER_TIMEOUT_S = 30.0
HELPER_LIMIT_BYTES = 1 << 20
FILE_LIMIT_BYTES = 4 << 20
NOT_FOUND = "credentials not found"  # a helper's answer for a registry without a login
TOKEN_USER = "<token>"  # noqa: S105 - the user name that marks a helper's secret as an identity token
PROXIES = {"httpProxy": "http_proxy", "httpsProxy": "https_proxy", "noProxy": "no_proxy", "ftpProxy": "ftp_proxy",
           "allProxy": "all_proxy"}  # fmt: skip


@dataclass(frozen=True)
class Login:
    """The login sent to a registry. problem: why config.json's login is not available; then `auth` is empty."""

    registry: str
    auth: Mapping[str, str] = field(default_factory=dict, repr=False)
    problem: str = ""

    def explained(self, message: str) -> str:
        """Appends the reason why no password was sent, if any, to a registry's refusal."""
        return f"{message}\n  no password was sent to {self.registry}: {self.problem}" if self.problem else message


@dataclass(frozen=True)
class DockerConfig:
    """The config.json in a folder; the folder may be missing."""

    folder: Path
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    @classmethod
    def of(cls, environ: Mapping[str, str], home: Path) -> DockerConfig:
        return cls(Path(environ.get("DOCKER_CONFIG") or home / ".docker"), environ)

    @property
    def path(self) -> Path:
        return self.folder / "config.json"

    def read(self) -> Mapping[str, Any]:
        """Reads the file; empty if it is missing. Raises InputError if it is not a JSON object."""
        return read_json(self.path)

    def current_context(self) -> str:
        name = self.read().get("currentContext") or "default"
        if not isinstance(name, str):
            raise InputError(f"{self.path}: currentContext must be text; fix: docker context use NAME")
        return name

    def proxies(self, url: str) -> dict[str, str]:
        """Returns the proxy variables that `docker run` sets for the engine at `url`, in upper and lower case.

        Raises InputError if the file cannot be read or its `proxies` are malformed.
        """
        everywhere = self.read().get("proxies") or {}
        given = everywhere.get(url, everywhere.get("default", {})) if isinstance(everywhere, dict) else everywhere
        if not isinstance(given, dict) or not all(isinstance(given.get(key, ""), str) for key in PROXIES):
            raise InputError(
                f"{self.path}: proxies must hold texts: "
                '{"default": {"httpProxy": "http://proxy:3128", "noProxy": "localhost"}}'
            )
        named = {PROXIES[key]: str(given[key]) for key in PROXIES if given.get(key)}
        return {name: value for lower, value in named.items() for name in (lower.upper(), lower)}

    def login(self, registry: str) -> Login:
        """Looks up the login for a registry (`docker.io`, `ghcr.io`, `localhost:5000`) as docker itself does.

        Raises nothing: a missing login is a problem only if the registry asks for one.
        """
        try:
            return Login(registry, self._found(registry))
        except InputError as error:
            return Login(registry, problem="; ".join(error.problems))

    def _found(self, registry: str) -> Mapping[str, str]:
        key = HUB if registry in HUB_NAMES else registry
        content = self.read()
        helpers, store = _table(content, "credHelpers", self.path), content.get("credsStore")
        helper = helpers.get(key) or (helpers.get("docker.io") if key == HUB else None) or store
        if helper and (found := self._asked(helper, key, registry)):
            return found
        for name, entry in _table(content, "auths", self.path).items():
            if name == key or _machine(name) == _machine(key):
                return self._stored(name, entry, key)
        return {}

    def _asked(self, helper: object, key: str, registry: str) -> Mapping[str, str] | None:
        """Asks a credential helper; None if it has no login for the registry."""
        if not isinstance(helper, str) or not re.fullmatch(r"[\w.-]+", helper, re.ASCII):
            raise InputError(f"{self.path}: the credential helper for {registry} must be a name such as `pass`")
        program = f"docker-credential-{helper}"
        remedy = f"see that `echo {key} | {program} get` works, or take {helper!r} out of {self.path}"
        code, output = self._run(program, key, registry, remedy)
        if code != 0:
            said = output.decode(errors="replace").strip()
            if NOT_FOUND in said:
                return None
            shown = printable(said[:200]) or "nothing"
            raise InputError(f"{program} gave no login for {registry}: exit code {code}, says: {shown}; fix: {remedy}")
        try:
            answer = json.loads(output)
            user, secret = answer["Username"], answer["Secret"]
        except (ValueError, LookupError, TypeError, RecursionError):
            # do not quote the output: it may hold the password
            raise InputError(f"{program} gave no valid login for {registry}; fix: {remedy}") from None
        if not isinstance(user, str) or not isinstance(secret, str):
            raise InputError(f"{program} gave no valid login for {registry}; fix: {remedy}")
        if user == TOKEN_USER:
            return {"identitytoken": secret, "serveraddress": key}
        return {"username": user, "password": secret, "serveraddress": key}

    def _run(self, program: str, key: str, registry: str, remedy: str) -> tuple[int, bytes]:
        try:
            process = subprocess.Popen(
                [program, "get"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=without_tokens(self.environ),
                start_new_session=True,  # its children end with it, and it cannot prompt on our terminal
            )
        except OSError as error:
            if shutil.which(program) is None:  # also if a folder on PATH is not readable, which has another errno
                raise InputError(
                    f"{program}, which {self.path} names for {registry}, is not on PATH; "
                    f"fix: install it, or take it out of {self.path} and run: docker login {registry}"
                ) from None
            raise InputError(f"{program} for {registry} cannot be run: {error.strerror}; fix: {remedy}") from error
        try:
            output, _ = process.communicate(key.encode(), HELPER_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"{program} gave no answer for {registry} in {HELPER_TIMEOUT_S:.0f} s; "
                f"fix: unlock its keychain; {remedy}"
            ) from None
        except OSError as error:
            raise InputError(f"{program} for {registry} ended early: {error.strerror}; fix: {remedy}") from error
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe:
                    pipe.close()
        return process.returncode, output[:HELPER_LIMIT_BYTES]

    def _stored(self, name: str, entry: object, key: str) -> Mapping[str, str]:
        fault = InputError(
            f"{self.path}: the entry {name!r} of auths is not a login (`auth` is base64 of USER:PASSWORD); "
            f"fix: docker logout {_machine(name)}; docker login {_machine(name)}"
        )
        fields = ("auth", "username", "password", "identitytoken", "registrytoken")
        if not isinstance(entry, dict) or not all(isinstance(entry.get(one) or "", str) for one in fields):
            raise fault
        found = {one: str(entry[one]) for one in fields[1:] if entry.get(one)}
        if entry.get("auth"):
            try:
                packed = "".join(entry["auth"].split())
                user, colon, password = base64.b64decode(packed, validate=True).decode().partition(":")
            except ValueError:
                raise fault from None
            if not colon or not user:
                raise fault
            found |= {"username": user, "password": password.strip("\0")}
        return {**found, "serveraddress": key} if found else {}


def registry_of(image: str) -> str:
    """Returns the registry of an image name: `docker.io` if it names none."""
    first, slash, _ = image.partition("/")
    return first if slash and (first == "localhost" or "." in first or ":" in first) else "docker.io"


def read_json(path: Path) -> dict[str, Any]:
    """Reads a JSON object; empty if there is no file. Raises InputError if the file is anything else."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
        text = data.decode()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if len(data) > FILE_LIMIT_BYTES:
        raise InputError(f"{path}: is larger than {FILE_LIMIT_BYTES >> 20} MiB, which no file of Docker's settings is")
    try:
        value = json.loads(text) if text.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: it is not JSON ({error})") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: cannot be read: it must hold a JSON object, {{…}}")
    return value


def _table(content: Mapping[str, Any], key: str, path: Path) -> Mapping[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} must hold an object by registry")
    return value


def _machine(registry: str) -> str:
    """Strips scheme and path from a key of config.json; old versions of Docker wrote both."""
    machine = re.sub(r"^https?://", "", registry).partition("/")[0]
    return "docker.io" if machine in HUB_NAMES else machine
