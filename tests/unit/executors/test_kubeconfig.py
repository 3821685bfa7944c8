"""A kubeconfig means here what it means to kubectl, and no call is made without the credentials that it names."""

from __future__ import annotations

import base64
import contextlib
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, ClassVar, TypeAlias
from urllib.parse import urlsplit

import pytest
import yaml

from orchestrator.config import KubernetesHost
from orchestrator.errors import HostUnreachable, InputError
from orchestrator.executors.kubernetes import context, kubeconfig, login, plugin, proxies
from orchestrator.executors.kubernetes.cluster import Cluster
from orchestrator.executors.kubernetes.context import resolve
from orchestrator.executors.kubernetes.kubeconfig import Named, Unusable
from runner.wire.tokens import TOKEN_VARIABLES

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
V1 = "client.authentication.k8s.io/v1"
HOST = KubernetesHost(name="lab", gpus="none")


def user(folder: Path, **fields: Any) -> Named:
    return Named("user 'u'", {key.replace("_", "-"): value for key, value in fields.items()}, folder)


def cluster(folder: Path = Path("/"), **fields: Any) -> Named:
    shown = {"server": "https://api.example:6443", **fields}
    return Named("cluster 'c'", {key.replace("_", "-"): value for key, value in shown.items()}, folder)


def loaded(found: Named) -> login.Login:
    return login.load(found, cluster(), NOW)


def write(path: Path, server: str = "https://api.example", *, name: str = "lab", **more: Any) -> Path:
    whole = {
        "current-context": name,
        "clusters": [{"name": name, "cluster": {"server": server, **more.pop("cluster", {})}}],
        "users": [{"name": name, "user": more.pop("user", {"token": "abc"})}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name, **more.pop("context", {})}}],
        **more,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump({key: value for key, value in whole.items() if value is not None}))
    return path


def program(path: Path, *lines: str) -> str:
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def prints(status: object, version: str = V1) -> str:
    whole = {"kind": "ExecCredential", "apiVersion": version, "status": status}
    return f"printf '%s' '{json.dumps(whole)}'"


def of_plugin(folder: Path, *lines: str, **fields: Any) -> Named:
    command = program(folder / "plugin", *lines)
    return user(folder, exec={"apiVersion": V1, "command": command, "interactiveMode": "Never", **fields})


# --- which files, and what they say together


def test_a_missing_file_and_an_empty_part_of_kubeconfig_are_skipped(tmp_path: Path) -> None:
    there = write(tmp_path / "b")
    environ = {"KUBECONFIG": f":{tmp_path / 'none'}::{there}:{there}"}
    assert kubeconfig.files(environ) == (there,)
    assert resolve(HOST, environ).name == "lab"


def test_a_file_that_is_empty_or_commented_out_adds_nothing(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("")
    (tmp_path / "comments").write_text("# clusters:\n# - name: old\n---\n")
    there = write(tmp_path / "b")
    environ = {"KUBECONFIG": f"{tmp_path / 'empty'}:{tmp_path / 'comments'}:{there}"}
    assert resolve(HOST, environ).name == "lab"
    with pytest.raises(InputError, match="has no current context"):
        resolve(HOST, {"KUBECONFIG": f"{tmp_path / 'comments'}"})


def test_of_two_files_the_first_ones_context_and_entries_count(tmp_path: Path) -> None:
    one = write(tmp_path / "one", name="a", context={"namespace": "first"})
    two = write(tmp_path / "two", name="b")
    again = write(tmp_path / "again", name="a", context={"namespace": "second"})
    found = resolve(HOST, {"KUBECONFIG": f"{one}:{two}:{again}"})
    assert (found.name, found.namespace) == ("a", "first")


def test_each_relative_path_begins_at_its_own_file(tmp_path: Path) -> None:
    write(tmp_path / "a" / "config", user={"tokenFile": "t"})
    (tmp_path / "a" / "t").write_text("secret\n")
    found = kubeconfig.read([tmp_path / "a" / "config"]).users["lab"]
    assert loaded(found).headers == (("Authorization", "Bearer secret"),)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"current-context": None}, "has no current context; give the host one: context: NAME"),
        ({"current-context": "lba"}, "has no context 'lba'; did you mean 'lab'"),
        ({"users": []}, "there is no user 'lab'"),
        ({"clusters": []}, "there is no cluster 'lab'"),
        ({"context": {"user": ""}}, "names no user"),
        ({"users": [{"name": "lab", "user": {}}] * 2}, "two entries named 'lab'"),
        ({"contexts": {"lab": {}}}, "contexts: expected a list"),
        ({"context": {"namespace": 5}}, "namespace: expected text, got int"),
    ],
)
def test_what_a_kubeconfig_lacks_is_said(tmp_path: Path, more: dict[str, Any], said: str) -> None:
    path = write(tmp_path / "config", **more)
    with pytest.raises(InputError, match=said):
        resolve(HOST, {"KUBECONFIG": str(path)})


def test_a_line_that_is_no_yaml_is_named_and_not_shown(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("users:\n- {name: u, user: {token: hunter2}\n")
    with pytest.raises(InputError, match=r"config, line \d+") as raised:
        resolve(HOST, {"KUBECONFIG": str(tmp_path / "config")})
    assert "hunter2" not in str(raised.value)


def test_a_context_without_a_namespace_means_default(tmp_path: Path) -> None:
    environ = {"KUBECONFIG": str(write(tmp_path / "config"))}
    assert resolve(HOST, environ).namespace == "default"
    assert resolve(HOST.model_copy(update={"namespace": "ours"}), environ).namespace == "ours"


# --- the server's address


@pytest.mark.parametrize(
    ("server", "meant"),
    [
        ("https://rancher.example/k8s/clusters/c-1/", "https://rancher.example/k8s/clusters/c-1"),
        ("https://api.example:6443///", "https://api.example:6443"),
        ("HTTPS://api.example", "https://api.example"),
        ("https://[fd00::1]:6443", "https://[fd00::1]:6443"),
        ("https://api.example/a%2Fb%20c", "https://api.example/a%2Fb%20c"),
        ("http://127.0.0.1:8001", "http://127.0.0.1:8001"),
        ("http://localhost:8001", "http://localhost:8001"),
        ("http://[::1]:8001", "http://[::1]:8001"),
    ],
)
def test_an_api_servers_address_means_what_it_means_to_kubectl(server: str, meant: str) -> None:
    assert context._server(cluster(server=server)).geturl() == meant


def test_an_address_without_a_scheme_has_tls_where_its_entry_speaks_of_it() -> None:
    assert context._server(cluster(server="10.0.0.1:6443", certificate_authority="ca.crt")).scheme == "https"
    with pytest.raises(Unusable, match="in the clear"):
        context._server(cluster(server="10.0.0.1:6443"))


@pytest.mark.parametrize(
    ("server", "said"),
    [
        ("", "is not set"),
        ("http://api.example", "in the clear; write https"),
        ("https://me:hunter2@api.example", "must hold no user or password"),
        ("https://api.example?a=b", "holds a query"),
        ("ftp://api.example", "is not an API server's address"),
        ("https://api example", "is not an API server's address"),
        ("https://api.example:port", "is not an address"),
        ("https://", "is not an API server's address"),
    ],
)
def test_what_is_no_api_servers_address_is_refused(server: str, said: str) -> None:
    with pytest.raises(Unusable, match=said) as raised:
        context._server(cluster(server=server))
    assert "hunter2" not in str(raised.value)


# --- proxies

PROXY = {"HTTPS_PROXY": "http://secure:3128", "HTTP_PROXY": "http://plain:3128"}


def proxy_for(server: str, **environ: str) -> str | None:
    found = proxies.from_environment(urlsplit(server), {**PROXY, **environ})
    return found.url if found else None


def test_https_proxy_is_for_https_and_http_proxy_for_http() -> None:
    assert proxy_for("https://api.example") == "http://secure:3128"
    assert proxy_for("http://api.example") == "http://plain:3128"
    assert proxies.from_environment(urlsplit("https://a"), {"HTTP_PROXY": "http://plain:3128"}) is None
    lower = proxies.from_environment(urlsplit("https://a"), {"https_proxy": "low:1"})
    assert lower is not None
    assert lower.url == "http://low:1"
    assert proxy_for("https://api.example", https_proxy="http://other:1") == "http://secure:3128"


@pytest.mark.parametrize("server", ["https://localhost:6443", "https://127.0.0.5", "https://[::1]:6443"])
def test_this_machine_is_never_asked_through_a_proxy(server: str) -> None:
    assert proxy_for(server) is None


@pytest.mark.parametrize(
    ("server", "no_proxy", "is_direct"),
    [
        ("https://api.example", "*", True),
        ("https://api.example", "a, *", True),
        ("https://api.example", "example", True),
        ("https://example", ".example", False),
        ("https://example", "*.example", False),
        ("https://api.example", "*.EXAMPLE", True),
        ("https://notexample", "example", False),
        ("https://api.example", "api.example:443", True),
        ("https://api.example:6443", "api.example:443", False),
        ("https://api.example:6443", " api.example:6443 ", True),
        ("https://10.1.2.3", "10.0.0.0/8", True),
        ("https://11.1.2.3", "10.0.0.0/8", False),
        ("https://10.1.2.3:6443", "10.1.2.3:6443", True),
        ("https://10.1.2.3", "10.1.2.3:6443", False),
        ("https://[fd00::1]:6443", "fd00::/8", True),
        ("https://[fd00::1]:6443", "fd00::1", True),
        ("https://[fd00::1]:6443", "[fd00::1]:6443", True),
        ("https://[fd00::1]:6443", "[fd00::1]:1", False),
        ("https://api.example", ",:80,/8,", False),
    ],
)
def test_no_proxy_is_read_as_go_reads_it(server: str, no_proxy: str, is_direct: bool) -> None:
    assert (proxy_for(server, NO_PROXY=no_proxy) is None) == is_direct
    assert (proxy_for(server, no_proxy=no_proxy) is None) == is_direct


def test_a_proxys_login_is_kept_apart_from_what_is_shown() -> None:
    found = proxies.parse("https://me:p%40ss@proxy:3128", "HTTPS_PROXY")
    assert (found.url, found.login) == ("https://proxy:3128", "me:p@ss")
    assert "p@ss" not in repr(found)


@pytest.mark.parametrize("value", ["socks5://me:hunter2@p:1", "ftp://me:hunter2@p", "http://me:hunter2@p:port", "://"])
def test_a_proxy_that_cannot_be_used_is_an_error_without_its_login(value: str) -> None:
    with pytest.raises(ValueError, match="HTTPS_PROXY: write http://host:port") as raised:
        proxies.parse(value, "HTTPS_PROXY")
    assert "hunter2" not in str(raised.value)


def test_a_clusters_own_proxy_goes_before_the_environments_and_no_proxy() -> None:
    own = context._proxy(cluster(proxy_url="http://own:1"), {**PROXY, "NO_PROXY": "*"})
    assert own is not None
    assert own.url == "http://own:1"
    with pytest.raises(Unusable, match=r"proxy-url: write .*; socks5:// proxies are not supported"):
        context._proxy(cluster(proxy_url="socks5://own:1"), {})


# --- who we are


def test_a_tokens_file_goes_before_a_token_and_is_read_anew(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("new\n")
    found = loaded(user(tmp_path, tokenFile="t", token="old"))
    assert found.headers == (("Authorization", "Bearer new"),)
    assert not found.is_stale(NOW)
    assert found.is_stale(NOW + timedelta(minutes=1))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "has no credentials"),
        ({"token": ""}, "has no credentials"),
        ({"token": "  "}, "has no credentials"),
        ({"token": "a\nb"}, "characters that no token has"),
        ({"tokenFile": "none", "token": "abc"}, "tokenFile: .*none cannot be read: No such file"),
        ({"tokenFile": "blank"}, "blank is empty"),
        ({"client_certificate": "none", "client_key": "none"}, "client-certificate: .*none cannot be read"),
        ({"client_certificate_data": "YQ=="}, "client-certificate and client-key together"),
        ({"client_certificate_data": "!", "client_key_data": "YQ=="}, "client-certificate-data is not base64"),
        ({"auth_provider": {"name": "gcp"}}, "auth-provider 'gcp' was removed from Kubernetes"),
        ({"auth_provider": {"name": "azure"}, "token": "abc"}, "auth-provider 'azure' was removed"),
        ({"auth_provider": {"name": "oidc", "config": {}}}, "id-token is empty; run any kubectl command"),
        ({"username": "me"}, "username and password together"),
        ({"token": "abc", "username": "me", "password": "p"}, "got both"),
        ({"token": 5}, "token: expected text, got int"),
        ({"token": "abc", "as_groups": ["g"]}, "need `as` beside them"),
        ({"token": "abc", "as": "me\n"}, "cannot be sent as a header"),
        ({"exec": {}}, "apiVersion '' is not"),
        ({"exec": {"apiVersion": "client.authentication.k8s.io/v1alpha1", "command": "x"}}, "v1alpha1' is not"),
        ({"exec": {"apiVersion": V1, "command": "no-such", "installHint": "Get it."}}, r"'no-such'; .*\(Get it.\)"),
        ({"exec": {"apiVersion": V1, "command": "./no-such"}}, "there is no program './no-such'"),
        ({"exec": {"apiVersion": V1, "command": "sh", "interactiveMode": "Always"}}, "needs a terminal"),
    ],
)
def test_a_credential_that_cannot_be_loaded_is_an_error(tmp_path: Path, fields: dict[str, Any], said: str) -> None:
    (tmp_path / "blank").write_text("\n")
    with pytest.raises(Unusable, match=said):
        loaded(user(tmp_path, **fields))


def test_kubectls_oidc_token_is_used_until_it_expires(tmp_path: Path) -> None:
    def at(ends: datetime) -> Named:
        claims = base64.urlsafe_b64encode(json.dumps({"exp": ends.timestamp()}).encode()).decode().rstrip("=")
        return user(tmp_path, auth_provider={"name": "oidc", "config": {"id-token": f"h.{claims}.s"}})

    found = loaded(at(NOW + timedelta(hours=1)))
    assert found.headers[0][1].startswith("Bearer h.")
    assert found.until == NOW + timedelta(hours=1)
    with pytest.raises(Unusable, match="expired at 2025-12-31 23:59 UTC; run any kubectl command"):
        loaded(at(NOW - timedelta(seconds=1)))


def test_whom_we_act_as_is_sent_with_each_call(tmp_path: Path) -> None:
    fields = {"as": "jane", "as_uid": "7", "as_groups": ["a", "b"], "as_user_extra": {"x/y": ["1"]}}
    assert loaded(user(tmp_path, token="abc", **fields)).headers[1:] == (
        ("Impersonate-User", "jane"),
        ("Impersonate-Uid", "7"),
        ("Impersonate-Group", "a"),
        ("Impersonate-Group", "b"),
        ("Impersonate-Extra-x%2Fy", "1"),
    )


# --- plugins


def test_a_plugins_token_is_used_until_it_expires(tmp_path: Path) -> None:
    stamp = "2026-01-01T00:30:00.123456789Z"
    found = loaded(of_plugin(tmp_path, prints({"token": "t1", "expirationTimestamp": stamp})))
    assert found.headers == (("Authorization", "Bearer t1"),)
    assert found.until == NOW + timedelta(minutes=30)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["echo 'SSO session expired' >&2; exit 7"], "failed with exit code 7: SSO session expired"),
        (["printf '\\033[31mno\\033[0m' >&2; exit 1"], "exit code 1: no$"),
        (["exit 0"], "printed no ExecCredential"),
        (["echo hunter2"], "printed no ExecCredential"),
        (["echo '[]'"], "printed no ExecCredential"),
        ([prints(None)], "printed no ExecCredential"),
        ([prints({})], "neither a token nor a client certificate"),
        ([prints({"token": ""})], "neither a token nor a client certificate"),
        ([prints({"clientCertificateData": "c"})], "without its key"),
        ([prints({"token": "t"}, "client.authentication.k8s.io/v1beta1")], "another kind or version"),
        ([prints({"token": "hunter2\nX: y"})], "characters that no token has|printed no ExecCredential"),
        ([prints({"token": "t", "expirationTimestamp": "hunter2"})], "whose expirationTimestamp is not a time; fix: "),
        ([prints({"token": "t", "expirationTimestamp": {"seconds": 1}})], "expirationTimestamp is not a time; fix: "),
        ([prints({"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Q"})], "expirationTimestamp is not a time"),
        ([prints({"token": "t", "expirationTimestamp": "2026-13-01T00:00:00Z"})], "expirationTimestamp is not a time"),
        ([prints({"token": "t", "expirationTimestamp": "0001-01-01T00:00:00+23:59"})], "expirationTimestamp is not a"),
        ([prints({"token": "t", "expirationTimestamp": "2025-12-31T23:00:00Z"})], "expired at 2025-12-31 23:00:00"),
        (["head -c 2000000 /dev/zero"], "printed more than"),
    ],
)
def test_a_plugin_that_hands_out_nothing_is_an_error(tmp_path: Path, lines: list[str], said: str) -> None:
    with pytest.raises(Unusable, match=said) as raised:
        loaded(of_plugin(tmp_path, *lines))
    assert "hunter2" not in str(raised.value)
    assert len(str(raised.value)) < 1000
    assert "\x1b" not in str(raised.value)


def test_a_plugin_that_does_not_end_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin, "TIMEOUT_S", 2)
    with pytest.raises(Unusable, match=r"did not end within 2 s: waiting"):
        loaded(of_plugin(tmp_path, "echo waiting >&2", "sleep 300"))


def test_a_plugin_gets_what_it_needs_and_none_of_our_tokens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in TOKEN_VARIABLES:
        monkeypatch.setenv(name, "hf_secret")
    monkeypatch.setenv("AWS_PROFILE", "bench")
    (tmp_path / "ca.crt").write_bytes(b"CA")
    theirs = of_plugin(
        tmp_path,
        f"env > {tmp_path}/seen; cat > {tmp_path}/input",
        prints({"token": "t"}),
        env=[{"name": "REGION", "value": "eu"}],
        provideClusterInfo=True,
    )
    extension = {"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}
    named = cluster(tmp_path, certificate_authority="ca.crt", tls_server_name="inner", extensions=[extension])
    login.load(theirs, named, NOW)
    seen = (tmp_path / "seen").read_text()
    assert "hf_secret" not in seen
    assert {"AWS_PROFILE=bench", "REGION=eu"} <= set(seen.splitlines())
    assert (tmp_path / "input").read_bytes() == b""
    info = json.loads(seen.partition("KUBERNETES_EXEC_INFO=")[2].partition("\n")[0])
    assert (info["kind"], info["apiVersion"], info["spec"]["interactive"]) == ("ExecCredential", V1, False)
    assert info["spec"]["cluster"] == {
        "server": "https://api.example:6443",
        "tls-server-name": "inner",
        "certificate-authority-data": base64.b64encode(b"CA").decode(),
        "config": {"audience": "x"},
    }


def test_a_plugin_with_a_slash_is_found_from_its_kubeconfig(tmp_path: Path) -> None:
    program(tmp_path / "plugin", prints({"token": "t"}))
    found = loaded(user(tmp_path, exec={"apiVersion": V1, "command": "./plugin"}))
    assert found.headers == (("Authorization", "Bearer t"),)


# --- calls

Reach: TypeAlias = Callable[..., Cluster]


class Api(http.server.BaseHTTPRequestHandler):
    """The token of `good` is taken, another is 401, and none is 403, as where anonymous access is allowed."""

    good = "t1"
    seen: ClassVar[list[dict[str, list[str]]]]
    paths: ClassVar[list[str]]

    def do_GET(self) -> None:
        type(self).paths.append(self.path)
        type(self).seen.append({name.title(): self.headers.get_all(name) or [] for name in self.headers})
        token = (self.headers.get("Authorization") or "").rpartition(" ")[2]
        code = 200 if token == self.good else 401 if token else 403
        nobody = {"message": 'User "system:anonymous" cannot list pods', "reason": "Forbidden"}
        said = {200: {"items": [], "metadata": {}}, 401: {"message": f"bad {token}"}, 403: nobody}
        body = json.dumps(said[code]).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def api() -> Iterator[tuple[type[Api], int]]:
    class Own(Api):
        seen: ClassVar = []
        paths: ClassVar = []

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield Own, server.server_port
        server.shutdown()
        thread.join()


@pytest.fixture
def reached(api: tuple[type[Api], int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Reach]:
    made: list[Cluster] = []

    def reach(who: Named, **more: Any) -> Cluster:
        path = write(tmp_path / "config", f"http://127.0.0.1:{api[1]}", user=dict(who.fields), cluster=more)
        monkeypatch.setenv("KUBECONFIG", str(path))
        made.append(Cluster(HOST))
        return made[-1]

    yield reach
    for each in made:
        each.close()


def test_a_plugin_that_fails_once_costs_no_call_without_a_token(
    api: tuple[type[Api], int], reached: Reach, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t1")
    lines = [f"[ -e {tmp_path}/broken ] && {{ echo 'no network' >&2; exit 1; }}"]
    lines += [prints({"token": "TOKEN"}) + f" | sed s/TOKEN/$(cat {tmp_path}/token)/"]
    one = reached(of_plugin(tmp_path, *lines))
    assert one.list("pods") == []
    api[0].good = "t2"
    (tmp_path / "token").write_text("t2")
    (tmp_path / "broken").touch()
    for _ in range(2):
        with pytest.raises(HostUnreachable, match=r"no credentials: .* exit code 1: no network"):
            one.list("pods")
    (tmp_path / "broken").unlink()
    assert one.list("pods") == []
    assert all("Authorization" in headers for headers in api[0].seen)


def test_a_first_load_that_fails_is_an_error_before_any_call(
    api: tuple[type[Api], int], reached: Reach, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"host lab, context lab: no credentials: .*: SSO expired"):
        reached(of_plugin(tmp_path, "echo SSO expired >&2; exit 255")).list("pods")
    assert api[0].seen == []


def test_a_server_that_takes_us_for_nobody_is_no_refusal(
    api: tuple[type[Api], int], reached: Reach, tmp_path: Path
) -> None:
    api[0].good = "other"
    with pytest.raises(InputError, match="does not accept your credentials"):
        reached(user(tmp_path, token="t1")).list("pods")


def test_groups_to_act_as_are_sent_one_by_one(api: tuple[type[Api], int], reached: Reach, tmp_path: Path) -> None:
    reached(user(tmp_path, token="t1", **{"as": "jane", "as_groups": ["a", "b"]})).list("pods")
    assert api[0].seen[0]["Impersonate-Group"] == ["a", "b"]
    assert api[0].seen[0]["Impersonate-User"] == ["jane"]


def test_a_clusters_proxy_gets_the_call_and_its_login(
    api: tuple[type[Api], int], reached: Reach, tmp_path: Path
) -> None:
    one = reached(user(tmp_path, token="t1"), **{"proxy-url": f"http://me:pw@127.0.0.1:{api[1]}"})
    assert one.list("pods") == []
    assert api[0].seen[0]["Proxy-Authorization"] == ["Basic " + base64.b64encode(b"me:pw").decode()]


def test_a_pod_uses_its_service_account_and_never_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "namespace").write_text("ours\n")
    (tmp_path / "token").write_text("")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    found = resolve(HOST, environ)
    assert found.namespace == "ours"
    with pytest.raises(Unusable, match=r"service account: .*token is empty"):
        found.access(None)
    (tmp_path / "token").write_text("abc\n")
    with pytest.raises(Unusable, match=r"ca\.crt cannot be read"):
        found.access(None)


# --- TLS


@pytest.fixture
def secure(api: tuple[type[Api], int], certificates: Path) -> Iterator[tuple[type[Api], int]]:
    """The same behind TLS, for whoever has a client certificate of the authority's."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates / "elsewhere-cert.pem", certificates / "elsewhere-key.pem")
    tls.load_verify_locations(certificates / "ca.pem")
    tls.verify_mode = ssl.CERT_REQUIRED
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), api[0]) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield api[0], server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.live
def test_a_client_certificate_is_shown_to_the_server_that_the_authority_signed(
    secure: tuple[type[Api], int], certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(**more: Any) -> Any:
        known = {"certificate-authority": str(certificates / "ca.pem"), "tls-server-name": "elsewhere"}
        trusted = {**known, **more}
        key = base64.b64encode((certificates / "key.pem").read_bytes()).decode()
        who = {"client-certificate": str(certificates / "cert.pem"), "client-key-data": key, "token": "t1"}
        path = write(tmp_path / "config", f"https://127.0.0.1:{secure[1]}/k8s/c%2F1/", user=who, cluster=trusted)
        monkeypatch.setenv("KUBECONFIG", str(path))
        with contextlib.closing(Cluster(HOST)) as one:
            return one.list("pods")

    assert asked() == []
    assert secure[0].paths[-1].startswith("/k8s/c%2F1/api/v1/namespaces/default/pods")
    with pytest.raises(InputError, match=r"its certificate is not trusted: .* mismatch"):
        asked(**{"tls-server-name": ""})
    with pytest.raises(InputError, match="its certificate is not trusted"):
        asked(**{"certificate-authority": str(certificates / "other-ca.pem")})
    with pytest.raises(InputError, match="cannot be combined"):
        asked(**{"insecure-skip-tls-verify": True})
    assert asked(**{"certificate-authority": "", "insecure-skip-tls-verify": True}) == []
    assert len(secure[0].paths) == 2


@pytest.mark.parametrize("content", [b"", b"no PEM", b"-----BEGIN CERTIFICATE-----\nYQ==\n-----END CERTIFICATE-----\n"])
def test_an_authority_or_certificate_that_is_none_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "ca").write_bytes(content)
    with pytest.raises(Unusable, match=r"certificate-authority"):
        context._tls(cluster(tmp_path, certificate_authority="ca"), login.Login())
    with pytest.raises(Unusable, match="do not belong together, or are not PEM"):
        context._tls(cluster(tmp_path), login.Login(certificate=content, key=content))
