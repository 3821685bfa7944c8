"""The manifests as `kubectl apply -k` would apply them, and the Kubernetes versions that they are checked against."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

import engines
import yaml
from kubernetes_validate.utils import all_versions
from paths import ROOT

MANIFESTS = ROOT / "manifests"
OVERLAYS = sorted(folder.parent.name for folder in MANIFESTS.glob("overlays/*/kustomization.yaml"))
EXAMPLES = sorted(path.name for path in MANIFESTS.glob("examples/*.yaml"))
VERSIONS = sorted({version.rpartition(".")[0] for version in all_versions()}, key=lambda v: int(v.split(".")[1]))


@cache
def rendered(folder: Path) -> tuple[dict[str, Any], ...]:
    """What `kubectl apply -k` would apply."""
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        engines.missing("kubectl is not installed")
    made = subprocess.run([str(kubectl), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    return tuple(yaml.safe_load_all(made.stdout))


def of_kind(kind: str, folder: Path = MANIFESTS / "overlays" / "gpu") -> dict[str, dict[str, Any]]:
    return {it["metadata"]["name"]: it for it in rendered(folder) if it["kind"] == kind}
