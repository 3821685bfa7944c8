"""Loads the credentials of a kubeconfig's user. An unusable credential is an error; it is never skipped.

Source: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/#AuthInfo
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import quote

from orchestrator.executors.kubernetes import plugin
from orchestrator.executors.kubernetes.kubeconfig import Named, Unusable, read_file

# How long a token file is cached; kubectl's value.
TOKEN_FILE_PERIOD = timedelta(minutes=1)
Header = tuple[str, str]


@dataclass(frozen=True)
class Login:
    """headers: of each call; a name may repeat. until: when to load the login again; None: once it is refused.

    secrets: values that no message may contain.
    """

    headers: Sequence[Header] = field(default=(), repr=False)
    certificate: bytes | None = field(default=None, repr=False)
    key: bytes | None = field(default=None, repr=False)
    until: datetime | None = None
    secrets: Sequence[str] = field(default=(), repr=False)

    def is_stale(self, now: datetime) -> bool:
        return self.until is not None and now >= self.until


def load(user: Named, cluster: Named, now: datetime) -> Login:
    """Reads files and runs the user's plugin. Raises Unusable, also for a login without any credential."""
    _must_be_one(user)
    certificate, key = user.material("client-certificate"), user.material("client-key")
    if (certificate is None) != (key is None):
        raise Unusable(f"{user.what}: expected client-certificate and client-key together")
    token, until = _token(user, now)
    basic = _basic(user)
    if user.fields.get("exec") is not None and not token:
        issued = plugin.run(user, cluster)
        token, until = _checked(issued.token, user.what), issued.expires
        if issued.certificate:
            certificate, key = issued.certificate, issued.key
        if until is not None and until <= now:
            raise Unusable(f"{user.what}: exec: what the plugin printed expired at {until:%Y-%m-%d %H:%M:%S} UTC")
    if not token and not basic and certificate is None:
        raise Unusable(f"{user.what} has no credentials: expected token, tokenFile, client-certificate or exec")
    headers = [("Authorization", f"Bearer {token}" if token else f"Basic {basic}")] if token or basic else []
    return Login((*headers, *impersonation(user)), certificate, key, until, [each for each in (token, basic) if each])


def from_service_account(folder: Path, now: datetime) -> Login:
    """Loads a pod's own login."""
    content = read_file(folder / "token", "this pod's service account")
    token = _checked(content.decode(errors="replace"), "this pod's service account")
    return Login((("Authorization", f"Bearer {token}"),), until=now + TOKEN_FILE_PERIOD, secrets=(token,))


def impersonation(user: Named) -> list[Header]:
    """Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation"""
    name, uid, groups = user.text("as"), user.text("as-uid"), user.texts("as-groups")
    extra = user.fields.get("as-user-extra") or {}
    if (uid or groups or extra) and not name:
        raise Unusable(f"{user.what}: as-uid, as-groups and as-user-extra need `as` beside them")
    found = [("Impersonate-User", name)] if name else []
    found += [("Impersonate-Uid", uid)] if uid else []
    found += [("Impersonate-Group", group) for group in groups]
    try:
        found += [(f"Impersonate-Extra-{quote(key, safe='')}", each) for key, some in extra.items() for each in some]
    except (TypeError, AttributeError):
        raise Unusable(f"{user.what}: as-user-extra: expected lists of texts by name") from None
    for _, value in found:
        if not isinstance(value, str) or not value.isprintable() or not value.isascii():
            raise Unusable(f"{user.what}: as, as-uid, as-groups or as-user-extra cannot be sent as a header")
    return found


def _must_be_one(user: Named) -> None:
    """Raises Unusable if the choice of credential is ambiguous for kubectl."""
    provider = user.fields.get("auth-provider")
    if provider is not None and user.fields.get("exec") is not None:
        raise Unusable(f"{user.what}: auth-provider and exec cannot be combined")
    if provider is not None:
        name = provider.get("name") if isinstance(provider, dict) else None
        if name != "oidc":
            raise Unusable(
                f"{user.what}: the auth-provider {name!r} was removed from Kubernetes; write this entry again with an "
                "exec plugin (gcloud container clusters get-credentials, kubelogin convert-kubeconfig, …)"
            )
    if (user.text("token") or user.text("tokenFile")) and (user.text("username") or user.text("password")):
        raise Unusable(f"{user.what}: expected a token or a username with its password, got both")


def _token(user: Named, now: datetime) -> tuple[str, datetime | None]:
    """Returns the token. tokenFile takes precedence, as in kubectl; an unreadable file is still an error."""
    if path := user.path("tokenFile"):
        content = read_file(path, f"{user.what}: tokenFile").decode(errors="replace")
        return _checked(content, f"{user.what}: tokenFile"), now + TOKEN_FILE_PERIOD
    if user.fields.get("token") is not None and user.text("token"):
        return _checked(user.text("token"), f"{user.what}: token"), None
    if user.fields.get("auth-provider") is not None:
        return _oidc(user, now)
    return "", None


def _oidc(user: Named, now: datetime) -> tuple[str, datetime | None]:
    """Returns the id-token that kubectl stored, until it expires. Only kubectl renews it, and writes it back."""
    renew = "run any kubectl command with this context, which renews it"
    settings = (user.fields.get("auth-provider") or {}).get("config") or {}
    token = _checked(str(settings.get("id-token") or ""), f"{user.what}: auth-provider oidc: id-token", renew)
    try:
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        ends = datetime.fromtimestamp(float(claims["exp"]), timezone.utc)
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, OSError):
        raise Unusable(f"{user.what}: auth-provider oidc: its id-token is not a JWT with an expiry; {renew}") from None
    if ends <= now:
        raise Unusable(f"{user.what}: auth-provider oidc: its id-token expired at {ends:%Y-%m-%d %H:%M} UTC; {renew}")
    return token, ends


def _basic(user: Named) -> str:
    name, password = user.text("username"), user.text("password")
    if bool(name) != bool(password):
        raise Unusable(f"{user.what}: expected username and password together")
    return base64.b64encode(f"{name}:{password}".encode()).decode() if name else ""


def _checked(token: str, what: str, fix: str = "") -> str:
    """Strips an editor's trailing line end. Raises Unusable if a header cannot carry the token."""
    token = token.strip()
    if not token and fix:
        raise Unusable(f"{what} is empty; {fix}")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Unusable(f"{what}: it holds characters that no token has")
    return token
