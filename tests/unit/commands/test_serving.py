"""The server of `report --watch`: one page, for a browser on this machine that knows its address."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import pytest

from orchestrator.commands.serving import ADDRESS, serving
from orchestrator.errors import InputError

PAGE, JSON = "<!doctype html><p>é", '{"version": 1}'


@pytest.fixture
def address() -> Iterator[str]:
    with serving(lambda: (PAGE, JSON), 0) as its:
        yield its


def asked(
    address: str, path: str | None = None, method: str = "GET", headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str], bytes]:
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(ADDRESS, parts.port or 0, timeout=30)
    try:
        connection.request(method, parts.path if path is None else path, headers=dict(headers or {}))
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def test_the_page_and_its_json_are_served_with_strict_headers(address: str) -> None:
    status, headers, body = asked(address)
    assert (status, body.decode()) == (200, PAGE)
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
    assert headers["Server"] == "orchestrator"
    status, headers, body = asked(address, urlsplit(address).path + "report.json")
    assert (status, headers["Content-Type"], body.decode()) == (200, "application/json", JSON)


def test_a_page_that_did_not_change_is_not_sent_again(address: str) -> None:
    tag = asked(address)[1]["ETag"]
    status, _, body = asked(address, headers={"If-None-Match": tag})
    assert (status, body) == (304, b"")


@pytest.mark.parametrize(
    "path", ["/", "/report.html", "/../etc/passwd", "/%2e%2e/etc/passwd", "//etc/passwd", "/favicon.ico", "/?a=b", "é"]
)
def test_any_other_path_is_not_found(address: str, path: str) -> None:
    port = urlsplit(address).port
    with socket.create_connection((ADDRESS, port or 0), timeout=30) as connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {ADDRESS}:{port}\r\nConnection: close\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] == b"404"
    assert b"root:" not in answer


def test_a_path_below_the_page_is_not_found(address: str) -> None:
    for end in ("x", "../", "report.html", "report.json/", "?a"):
        assert asked(address, urlsplit(address).path + end)[0] == 404


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:80", ""])
def test_a_name_that_resolves_to_this_machine_is_refused(address: str, host: str) -> None:
    assert asked(address, headers={"Host": host})[0] == 403


def test_localhost_with_the_port_is_accepted(address: str) -> None:
    assert asked(address, headers={"Host": f"localhost:{urlsplit(address).port}"})[0] == 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_only_get_is_answered(address: str, method: str) -> None:
    status, headers, _ = asked(address, method=method)
    assert (status, headers["Allow"]) == (405, "GET")
    assert "Access-Control-Allow-Origin" not in headers


def test_head_gets_no_body(address: str) -> None:
    status, _, body = asked(address, method="HEAD")
    assert (status, body) == (405, b"")


def test_the_address_differs_each_time_and_is_on_loopback() -> None:
    with serving(lambda: (PAGE, JSON), 0) as one, serving(lambda: (PAGE, JSON), 0) as other:
        assert urlsplit(one).path != urlsplit(other).path
        assert urlsplit(one).hostname == ADDRESS
        assert len(urlsplit(one).path) > 20


def test_a_port_that_is_taken_is_an_input_error(address: str) -> None:
    port = urlsplit(address).port or 0
    with (
        pytest.raises(InputError, match=f"--port {port}: .*; fix: choose another"),
        serving(lambda: (PAGE, JSON), port),
    ):
        pass


def test_a_page_that_cannot_be_made_is_said_to_be_unavailable() -> None:
    def fails() -> tuple[str, str]:
        raise InputError("the journal is damaged")

    with serving(fails, 0) as address:
        status, _, body = asked(address)
    assert (status, body) == (503, b"the journal is damaged\n")
