"""`--push`: real pods that pull by digest what a real engine built and pushed to a real registry."""

from __future__ import annotations

from pathlib import Path

import engines
import pytest
from clusters import LabCluster
from engines import Engine

from orchestrator import cli, images
from orchestrator.errors import ExitCode
from orchestrator.executors.docker.connection import Connection
from orchestrator.images import recipe
from orchestrator.runs import folder as runs

pytestmark = [pytest.mark.kubernetes, pytest.mark.docker]


def test_a_job_names_the_image_that_was_pushed_for_it_by_its_digest(
    kubernetes_cluster: LabCluster,
    docker_host: Engine,
    first: Connection,
    registry: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKER_HOST", docker_host.url)
    monkeypatch.setattr(recipe, "recipe", lambda _: engines.contract_files())
    Path("hosts.yaml").write_text("hosts:\n  pool: {kind: kubernetes, gpus: none}\n")
    Path("matrix.yaml").write_text("prompt: rows\nmatrix: {steps: [1]}\nrounds: 1\n")
    try:
        with pytest.raises(SystemExit) as end:
            cli.main(["submit", "matrix.yaml", "--push", registry])
        assert end.value.code == ExitCode.OK, capfd.readouterr().err
        (row,) = runs.find(runs.ROOT).all_rows()
        assert str(row.image).startswith(f"{registry}/sd-orchestrator/cpu@sha256:")
        with first.api() as api:
            seen = api.inspect_image(images.reference("cpu"))  # type: ignore[no-untyped-call]
            assert row.image in seen["RepoDigests"]
    finally:
        if there := images.find(first, images.reference("cpu")):
            with first.api() as api:
                api.remove_image(there.id, force=True)
