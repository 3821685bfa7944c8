"""Why a folder cannot be read, as a job's user sees it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import a_job
from commands import orchestrate, write
from paths import ROOT

from orchestrator.config import DockerHost, ProcessHost
from orchestrator.executors.docker.check import readable
from orchestrator.executors.finding import Grade
from orchestrator.hosts import links, process
from runner.models import folders


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A model in a cache of the hub: a snapshot of links to blobs."""
    repository = tmp_path / "hub" / "models--o--n"
    (repository / "blobs").mkdir(parents=True)
    (repository / "blobs" / "abc").write_text("{}")
    folder = repository / "snapshots" / "r1"
    (folder / "unet").mkdir(parents=True)
    (folder / "model_index.json").symlink_to("../../blobs/abc")
    (folder / "unet" / "config.json").symlink_to("../../../blobs/abc")
    return folder


def test_a_folder_of_links_that_all_lead_somewhere_has_no_obstacle(snapshot: Path) -> None:
    assert folders.first_obstacle(snapshot) is None
    assert folders.first_obstacle(snapshot.parents[2]) is None


def test_a_link_that_leads_nowhere_is_named_with_its_target_and_the_fix(snapshot: Path) -> None:
    (snapshot.parents[1] / "blobs" / "abc").unlink()
    said = folders.first_obstacle(snapshot)
    assert said is not None
    assert f"{snapshot / 'model_index.json'} is a link to ../../blobs/abc" in said
    assert "cp -rL" in said


def test_links_in_a_circle_are_named_and_walked_once(tmp_path: Path) -> None:
    (tmp_path / "up").symlink_to(tmp_path)
    assert folders.first_obstacle(tmp_path) is None
    (tmp_path / "self").symlink_to("self")
    assert "is a link to self" in str(folders.first_obstacle(tmp_path))


def test_locks_and_incomplete_downloads_are_ignored(tmp_path: Path) -> None:
    for name in (".locks", "a.lock", "b.incomplete"):
        (tmp_path / name).symlink_to("nowhere")
    assert folders.first_obstacle(tmp_path) is None


@pytest.mark.parametrize("closed", ["hub/models--o--n/blobs/abc", "hub/models--o--n/blobs", "hub"])
def test_what_another_user_may_not_read_is_named_with_the_fix(snapshot: Path, tmp_path: Path, closed: str) -> None:
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents:  # pytest's own folders are closed, and each of several processes has one more
        if os.geteuid() == 0 and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            parent.chmod(0o755)
    (tmp_path / closed).chmod(0o600 if closed.endswith("abc") else 0o700)
    words = [sys.executable, "-m", "runner.models.folders", str(tmp_path / "hub")]
    if os.geteuid() != 0:
        (tmp_path / closed).chmod(0)
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    else:  # as another user, and by what root may still import
        code = f"import os; os.setgroups([]); os.setuid(1000); print(folders.first_obstacle(Path({words[-1]!r})))"
        start = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pathlib import Path; "
        start += "from runner.models import folders; "
        done = subprocess.run([sys.executable, "-c", start + code], capture_output=True, text=True, check=True)
    assert "cannot be read by user" in done.stdout
    assert f"chmod -R a+rX {tmp_path / 'hub'}" in done.stdout
    (tmp_path / closed).chmod(0o755)


def test_a_check_of_this_machine_names_weights_that_are_not_there(tmp_path: Path) -> None:
    found = [it for it in process.check(ProcessHost(name="here", weights=f"{tmp_path}/none")) if it.remedy]
    (weights,) = [it for it in found if it.topic == "weights"]
    assert (weights.grade, weights.text) == (Grade.PROBLEM, f"the weights folder {tmp_path}/none is not there")


@pytest.mark.usefixtures("fake_packages")
def test_a_check_of_this_machine_names_weights_that_you_cannot_read(snapshot: Path, tmp_path: Path) -> None:
    host = ProcessHost(name="here", weights=str(tmp_path))
    found = {finding.topic: finding for finding in process.check(host)}
    assert found["weights"].text == f"{tmp_path / 'hub'} can be read by you"
    (snapshot.parents[1] / "blobs" / "abc").unlink()
    found = {finding.topic: finding for finding in process.check(host)}
    assert found["weights"].grade is Grade.PROBLEM
    assert "is a link to ../../blobs/abc" in found["weights"].text
    assert "cp -rL" in found["weights"].remedy


def test_what_a_container_says_of_its_mount_is_told_of_the_hosts_folder() -> None:
    said = "/weights/hub/a cannot be read by user 1000; fix, on that host: chmod -R a+rX /weights/hub"
    found = readable(said, "/data/hub", "by user 1000", "/weights/hub")
    assert (found.text, found.remedy) == ("/data/hub/a cannot be read by user 1000", "chmod -R a+rX /data/hub")
    assert readable("", "/data/hub", "by user 1000").grade is Grade.PROBLEM


def test_links_that_leave_what_is_mounted_are_found_where_the_folder_is(snapshot: Path, tmp_path: Path) -> None:
    assert list(folders.leaving_links(snapshot, snapshot.parents[1])) == []
    assert len(list(folders.leaving_links(snapshot, snapshot))) == 2
    (snapshot / "vae").symlink_to(tmp_path)
    assert list(folders.leaving_links(snapshot, snapshot.parents[1])) == [f"{snapshot / 'vae'} is a link to {tmp_path}"]


def test_a_plan_names_links_that_a_container_would_not_see(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "blob").write_text("{}")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "model_index.json").symlink_to("../blob")
    monkeypatch.chdir(tmp_path)
    write("hosts: {far: {kind: docker, gpus: none, url: 'unix:///nowhere.sock'}}\n", "hosts.yaml")
    for folder in ("model", "hub/models--o--n/snapshots/r1"):
        write(f"model: {tmp_path / folder}\nmatrix: {{engine: [eager]}}\n", f"{Path(folder).name}.yaml")
    assert orchestrate("plan", "r1.yaml") == 0
    assert "link" not in capsys.readouterr().err
    assert orchestrate("plan", "model.yaml") == 0
    said = capsys.readouterr().err
    assert f"{tmp_path}/model/model_index.json is a link to ../blob, outside of {tmp_path}/model" in said
    assert "fix: copy the folder with `cp -rL`" in said


def test_links_of_a_host_that_may_be_another_machine_are_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to("/")
    job = a_job(host="far", model=str(tmp_path))
    for host in (DockerHost(name="far", url="ssh://u@far"), DockerHost(name="far", context="far")):
        assert links.warnings([job], [host], {}) == []
    assert links.warnings([job], [DockerHost(name="far")], {"DOCKER_HOST": "tcp://far:2376"}) == []
    assert len(links.warnings([job], [DockerHost(name="far")], {})) == 1
