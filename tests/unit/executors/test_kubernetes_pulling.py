"""What registries and runtimes say of an image that does not come: what passes, and what never will."""

from __future__ import annotations

import pytest

from orchestrator.executors.kubernetes.pulling import is_final, reason_in

IMAGE = "registry.example/sd/cuda:1"
REF = f'"{IMAGE}"'
CONTAINERD = f"failed to pull and unpack image {REF}: failed to resolve reference {REF}: "
DOCKER = "rpc error: code = Unknown desc = Error response from daemon: "
CRIO = "rpc error: code = Unknown desc = "


@pytest.mark.parametrize(
    "words",
    [
        f"{DOCKER}Get https://registry.example/v2/: dial tcp: lookup registry.example on 10.0.0.2:53: no such host",
        f"{DOCKER}Get https://registry.example/v2/: dial tcp 10.0.0.9:443: connect: connection refused",
        f"{DOCKER}Get https://registry.example/v2/: net/http: TLS handshake timeout",
        f"{DOCKER}Get https://registry.example/v2/: net/http: request canceled (Client.Timeout exceeded)",
        f"{DOCKER}received unexpected HTTP status: 503 Service Unavailable",
        f"{DOCKER}toomanyrequests: You have reached your pull rate limit.",
        f"{CONTAINERD}failed to do request: Head https://registry.example/v2/x: dial tcp: lookup registry.example: "
        "Temporary failure in name resolution",
        f"{CONTAINERD}failed to do request: Head https://registry.example/v2/x: EOF",
        f"{CONTAINERD}unexpected status from HEAD request to https://registry.example/v2/x: 502 Bad Gateway",
        f"{CONTAINERD}failed to authorize: failed to fetch anonymous token: Get https://auth.example/token: "
        "net/http: TLS handshake timeout",
        f"{CONTAINERD}unexpected status code https://registry.example/v2/x: 429 Too Many Requests - Server message: "
        "toomanyrequests: rate exceeded",
        "rpc error: code = DeadlineExceeded desc = context deadline exceeded",
        f"{CRIO}initializing source docker://{IMAGE}: pinging container registry registry.example: Get "
        "https://registry.example/v2/: dial tcp: lookup registry.example: no such host",
        f"{CRIO}reading manifest 1 in registry.example/sd/cuda: received unexpected HTTP status: "
        "500 Internal Server Error",
        f'{CRIO}pinging container registry registry.example: StatusCode: 503, "access denied by gateway"',
        "pull QPS exceeded",
        "write /var/lib/x: no space left on device",
        "something that nobody knows",
        "",
    ],
)
def test_a_registry_that_cannot_be_reached_now_may_answer_later(words: str) -> None:
    assert not is_final(words, IMAGE)


@pytest.mark.parametrize(
    "words",
    [
        f"{DOCKER}manifest for {IMAGE} not found: manifest unknown: manifest unknown",
        f"{DOCKER}pull access denied for registry.example/sd/cuda, repository does not exist or may require 'docker "
        "login': denied: requested access to the resource is denied",
        f"{DOCKER}Head https://registry.example/v2/x: unauthorized: authentication required",
        f"{DOCKER}no matching manifest for linux/arm64/v8 in the manifest list entries",
        f"rpc error: code = NotFound desc = {CONTAINERD}{IMAGE}: not found",
        f"{CONTAINERD}pull access denied, repository does not exist or may require authorization: server message: "
        "insufficient_scope: authorization failed",
        f"{CONTAINERD}unexpected status from HEAD request to https://registry.example/v2/x: 403 Forbidden",
        f"{CONTAINERD}failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized",
        "failed to pull image: no match for platform in manifest: not found",
        f"{CONTAINERD}http: server gave HTTP response to HTTPS client",
        f"{CONTAINERD}failed to do request: Head x: tls: failed to verify certificate: x509: certificate signed by "
        "unknown authority",
        f"{CRIO}reading manifest 1 in registry.example/sd/cuda: manifest unknown",
        f"{CRIO}reading manifest 1 in registry.example/sd/cuda: name unknown: repository sd/cuda not found",
        f"{CRIO}unable to retrieve auth token: invalid username/password: unauthorized: incorrect username",
        f"{CRIO}choosing image instance: no image found in image index for architecture arm64, OS linux",
        f'{CRIO}short-name "sd/cuda:1" did not resolve to an alias and no unqualified-search registries are defined',
    ],
)
def test_what_a_registry_answers_of_an_image_it_will_answer_again(words: str) -> None:
    assert is_final(words, IMAGE)


def test_an_images_own_name_decides_nothing() -> None:
    assert not is_final(
        "cannot pull registry.example/denied/forbidden:1 just now", "registry.example/denied/forbidden:1"
    )
    tagged = f"{CRIO}reading manifest 512 in registry.example/sd/cuda: manifest unknown"
    assert is_final(tagged, "registry.example/sd/cuda:512")


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (f"Back-off pulling image {REF}", ""),
        ("Error: ImagePullBackOff", ""),
        ("Error: ErrImagePull", ""),
        (f"Failed to pull image {REF}: {DOCKER}no basic auth", f"{DOCKER}no basic auth"),
        (f"Back-off pulling image {REF}: ErrImagePull: manifest unknown", "ErrImagePull: manifest unknown"),
    ],
)
def test_a_reason_is_told_from_the_word_that_there_is_one(message: str, reason: str) -> None:
    assert reason_in(message) == reason
