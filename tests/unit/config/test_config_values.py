"""The values of the two files: what they refuse by themselves."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from orchestrator.config import DockerHost, Point, ProcessHost, Tls
from orchestrator.config.address import engine_url
from orchestrator.config.matrix import Settings, Until, _known_model
from orchestrator.config.values import duration_s
from runner.schema import Device, Precision

TLS = Tls(ca="ca.pem", cert="cert.pem", key="key.pem")


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("30m", 1800), ("1h30m", 5400), ("2h", 7200), ("1h0m5s", 3605), (" 5m ", 300)]
)
def test_a_duration_is_hours_minutes_and_seconds(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "1.5h", "30", "m", "-5m", "1m1h", "٣m"])
def test_what_is_no_duration_is_left_for_the_validator_to_name(text: str) -> None:
    assert duration_s(text) == text


@pytest.mark.parametrize(
    "url",
    [
        "ssh://me@desk",
        "ssh://desk:2222",
        "ssh://me@desk/run/user/1000/docker.sock",
        "unix:///var/run/docker.sock",
        "tcp://127.0.0.1:2375",
        "tcp://localhost:2375",
        "tcp://[::1]:2375",
    ],
)
def test_an_engine_is_reached_by_ssh_a_socket_or_loopback(url: str) -> None:
    assert DockerHost(url=url).url == url


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("/var/run/docker.sock", "unix:///path/docker.sock"),
        ("unix://var/run/docker.sock", "three slashes"),
        ("unix:///", "three slashes"),
        ("me@desk", "ssh://user@host"),
        ("ssh://", "names no machine"),
        ("ssh://-oProxyCommand=evil", "names no machine"),
        ("ssh://-oProxyCommand=evil@desk", "names no machine"),
        ("ssh://me:secret@desk", "no password"),
        ("ssh://me@desk --flag", "not an engine's address"),
        ("npipe:////./pipe/docker_engine", "named pipe of Windows"),
        ("fd://", "systemd"),
        ("ssh://desk/a%0Ab", "for ssh"),
        ("ssh://desk/a:b", "for ssh"),
        ("tcp://desk:port", "Port"),
        ("tcp://desk:99999", "Port"),
        ("http://desk:2375", "tcp://host:port with tls"),
        ("ssh://[::1", "not an address"),
        ("", "not an engine's address"),
    ],
)
def test_a_wrong_address_says_what_to_write(url: str, hint: str) -> None:
    with pytest.raises(ValidationError, match=r"(?s)url.*" + hint.replace("(", r"\(")):
        DockerHost(url=url)


@pytest.mark.parametrize(
    "url",
    [
        "ssh://me:hunter2@desk",
        "ssh://me:hunter2@desk:99999",
        "ssh://:hunter2@[::1",
        "ssh://me:hunter2@desk\n",
        "tcp://hunter2@127.0.0.1:2375",
    ],
)
def test_an_address_that_holds_a_password_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValidationError) as caught:
        DockerHost(url=url)
    assert "hunter2" not in caught.value.errors(include_input=False)[0]["msg"]


@pytest.mark.parametrize("word", ["$(touch${IFS}x)", "`id`", "me;id", "a|b", "a&b", "a'b", 'a"b', "a\\b", "a>b", "a*b"])
def test_what_a_shell_of_the_users_ssh_configuration_would_run_is_no_address(word: str) -> None:
    for url in (f"ssh://{word}", f"ssh://{word}@desk", f"ssh://desk/{word}"):
        with pytest.raises(ValidationError, match="for ssh"):
            DockerHost(url=url)


def test_tcp_beyond_this_machine_needs_tls() -> None:
    assert DockerHost(url="tcp://10.0.0.7:2376", tls=TLS).tls == TLS
    with pytest.raises(ValidationError, match="add tls"):
        DockerHost(url="tcp://10.0.0.7:2376")


def test_tcp_without_tls_beyond_this_machine_is_taken_where_it_is_asked_for() -> None:
    assert DockerHost(url="tcp://10.0.0.7:2375", insecure=True).tls is None


@pytest.mark.parametrize(
    ("text", "tls", "meant"),
    [
        ("tcp://", False, "tcp://127.0.0.1:2375"),
        ("tcp://desk", False, "tcp://desk:2375"),
        ("tcp://desk", True, "tcp://desk:2376"),
        ("tcp://desk:1234/engines/1/", True, "tcp://desk:1234/engines/1"),
        ("tcp://[fe80::1]", True, "tcp://[fe80::1]:2376"),
        ("desk:2375", False, "tcp://desk:2375"),
        (":2375", False, "tcp://127.0.0.1:2375"),
        (" unix:///run/d.sock\n", False, "unix:///run/d.sock"),
        ("unix://", False, "unix:///var/run/docker.sock"),
        ("unix:///a b/d%20#1?.sock", False, "unix:///a b/d%20#1?.sock"),
        ("ssh://me%40corp@desk:22/run/my%20d.sock", False, "ssh://me%40corp@desk:22/run/my%20d.sock"),
    ],
)
def test_an_address_means_what_it_means_to_dockers_command_line(text: str, tls: bool, meant: str) -> None:
    assert engine_url(text, tls=tls) == meant


def test_tls_goes_with_tcp_alone() -> None:
    with pytest.raises(ValidationError, match="tcp:// url"):
        DockerHost(url="ssh://me@desk", tls=TLS)


def test_url_and_context_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="keep one"):
        DockerHost(url="ssh://me@desk", context="desk")


def test_a_host_with_gpus_computes_on_cuda() -> None:
    assert DockerHost().device is Device.CUDA
    assert DockerHost(gpus="none").device is Device.CPU
    assert ProcessHost().device is Device.CPU
    assert ProcessHost(gpus=(0,)).device is Device.CUDA


@pytest.mark.parametrize("gpus", [(), (0, 0), (-1,), ("zero",), (True,), "0", 2])
def test_gpus_are_all_none_or_distinct_ids(gpus: object) -> None:
    with pytest.raises(ValidationError):
        DockerHost.model_validate({"gpus": gpus})


def test_a_job_cannot_have_more_gpus_than_are_listed() -> None:
    with pytest.raises(ValidationError, match="gpus lists 2"):
        DockerHost(gpus=(0, 1), gpus_per_job=3)


@pytest.mark.parametrize(("given", "capability"), [(8.9, (8, 9)), (9, (9, 0)), (12.1, (12, 1)), (None, None)])
def test_a_compute_capability_is_a_number_of_two_parts(given: float | None, capability: object) -> None:
    assert DockerHost(compute_capability=given).capability == capability


@pytest.mark.parametrize("name", ["../up", "a/b", "", "-a", "a-", "a b", "a\n", "x" * 64, "ä"])
def test_a_name_cannot_leave_the_folder_that_it_names(name: str) -> None:
    with pytest.raises(ValidationError):
        ProcessHost(name=name)


def test_weights_on_a_docker_host_are_an_absolute_path() -> None:
    with pytest.raises(ValidationError, match="absolute"):
        DockerHost(weights="~/cache")


@pytest.mark.parametrize(
    "cache", ["/data/hf", "/data", "/data/hf/hub/compiled", "/", "//", "/x/..", "/data/x/../hf/", "//data/hf"]
)
def test_what_jobs_write_to_is_apart_from_the_weights(cache: str) -> None:
    with pytest.raises(ValidationError, match="cache must be"):
        DockerHost(weights="/data/hf", cache=cache)
    assert DockerHost(weights="/data/hf", cache="/data/hf-compiled").cache


@pytest.mark.parametrize(
    "wrong", [{"samples": True}, {"samples": "1"}, {"samples": 1.0}, {"autocast": 1}, {"seed": -1}]
)
def test_types_are_strict(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Point.model_validate(wrong)


def test_precision_is_a_word_of_the_file() -> None:
    assert Point.model_validate({"precision": "half"}).precision is Precision.HALF


def test_an_unknown_synthetic_size_names_the_nearest() -> None:
    with pytest.raises(ValidationError, match="did you mean 'synthetic:small'"):
        Point(model="synthetic:smal")


@pytest.mark.parametrize(
    ("model", "meant"),
    [
        ("tiny", r"did you mean 'synthetic:tiny'\?$"),
        ("sdxl", r"'synthetic:sdxl'\?, or 'stabilityai/stable-diffusion-xl-base-1.0' for the original"),
    ],
)
def test_a_synthetic_model_without_its_prefix_is_answered_with_it(model: str, meant: str) -> None:
    with pytest.raises(ValueError, match=meant):
        _known_model(model)


def test_until_cannot_allow_fewer_repeats_than_are_asked_for() -> None:
    with pytest.raises(ValidationError, match="at most"):
        Settings(repeats=50, until=Until(rel_ci=0.1, max_repeats=10))
