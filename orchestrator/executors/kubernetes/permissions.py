"""The permissions that `manifests/` grants: the one list of what the orchestrator may do, each verb with its line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path

from orchestrator import installation
from orchestrator.config import yamlfile


class Role(Enum):
    """A role of the manifests, by its file. Runs use RUN; without the others a check reports less."""

    RUN = "base/role.yaml"
    CHECK = "base/check-role.yaml"
    NODES = "nodes/cluster-role.yaml"


@dataclass(frozen=True)
class Permission:
    """One verb on one resource (`pods/log`: a subresource). where: `file:line` of the rule that grants it."""

    role: Role
    verb: str
    group: str
    resource: str
    where: str

    @property
    def is_needed(self) -> bool:
        """Whether jobs need it to run.

        Without events, jobs run, but less is known of why a job does not start. Without watches, objects are listed.
        """
        return self.role is Role.RUN and self.resource != "events" and self.verb != "watch"

    @property
    def in_all_namespaces(self) -> bool:
        return self.role is Role.NODES

    def __str__(self) -> str:
        return f"{self.verb} {self.resource}{'.' * bool(self.group)}{self.group}"


def folder() -> Path:
    return installation.folder("manifests")


@cache
def permissions() -> tuple[Permission, ...]:
    """Returns all permissions of the roles, in the files' order."""
    return tuple(permission for role in Role for permission in _granted_by(role))


def _granted_by(role: Role) -> list[Permission]:
    document = yamlfile.read(folder() / role.value)
    return [
        Permission(role, verb, group, resource, document.where(("rules", number, "verbs")))
        for number, rule in enumerate(document.value["rules"])
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    ]
