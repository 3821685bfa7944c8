"""What `plan` and `submit` are asked for, and the plan that follows from it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from orchestrator import config
from orchestrator.config import Host, Matrix
from orchestrator.hosts import links
from orchestrator.planning import earlier
from orchestrator.planning.plan import Plan, make_plan


@dataclass(frozen=True)
class Request:
    """inventory: None is hosts.yaml in this folder, or else this machine alone. overrides: of --set."""

    matrix: Path
    inventory: Path | None = None
    hosts: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    registry: str | None = None
    wheels: Path | None = None
    lost_after_s: float = 900.0
    metrics_file: Path | None = None


@dataclass(frozen=True)
class Planned:
    """warnings: of what a container would not see of this machine's folders."""

    plan: Plan
    hosts: tuple[Host, ...]
    matrix: Matrix
    warnings: tuple[str, ...]


def planned(request: Request) -> Planned:
    """The plan of a request, from its two files and the rows of earlier runs. Raises InputError with all problems."""
    hosts = config.select(config.load_hosts(request.inventory, request.hosts), request.hosts or None)
    matrix = config.load_matrix(request.matrix, request.overrides)
    plan = make_plan(matrix, hosts, earlier.rows())
    return Planned(plan, hosts, matrix, tuple(links.warnings(plan.jobs, hosts)))
