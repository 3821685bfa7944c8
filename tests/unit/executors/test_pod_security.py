"""Each rule of "restricted" is one that a pod can break, and a pod that keeps all of them breaks none."""

from __future__ import annotations

import copy
from typing import Any

import pod_security
import pytest

KEEPS_ALL: dict[str, Any] = {
    "metadata": {},
    "spec": {
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}}],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
}
BREAKS: dict[str, tuple[str, Any]] = {
    "HostProcess": ("pod", {"securityContext": {"windowsOptions": {"hostProcess": True}}}),
    "Host Namespaces": ("pod", {"hostIPC": True}),
    "Privileged Containers": ("context", {"privileged": True}),
    "Capabilities": ("context", {"capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}}),
    "HostPath Volumes": ("pod", {"volumes": [{"name": "root", "hostPath": {"path": "/"}}]}),
    "Host Ports": ("container", {"ports": [{"containerPort": 80, "hostPort": 80}]}),
    "Host Probes / Lifecycle Hooks": ("container", {"livenessProbe": {"tcpSocket": {"host": "10.0.0.1", "port": 1}}}),
    "AppArmor": ("context", {"appArmorProfile": {"type": "Unconfined"}}),
    "SELinux": ("context", {"seLinuxOptions": {"type": "spc_t"}}),
    "/proc Mount Type": ("context", {"procMount": "Unmasked"}),
    "Sysctls": ("pod", {"securityContext": {"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}}),
    "Volume Types": ("pod", {"volumes": [{"name": "share", "nfs": {"server": "a", "path": "/"}}]}),
    "Privilege Escalation": ("context", {"allowPrivilegeEscalation": None}),
    "Running as Non-root": ("context", {"runAsNonRoot": False}),
    "Running as Non-root user": ("context", {"runAsUser": 0}),
    "Seccomp": ("context", {"seccompProfile": {"type": "Unconfined"}}),
}


def test_a_pod_that_keeps_the_rules_breaks_none() -> None:
    assert pod_security.broken(KEEPS_ALL) == []


@pytest.mark.parametrize("rule", pod_security.RULES)
def test_each_rule_is_one_that_a_pod_can_break(rule: str) -> None:
    where, change = BREAKS[rule]
    pod = copy.deepcopy(KEEPS_ALL)
    container = pod["spec"]["containers"][0]
    spec = {"pod": pod["spec"], "container": container, "context": container["securityContext"]}[where]
    spec |= {key: {**spec.get(key, {}), **value} if isinstance(value, dict) else value for key, value in change.items()}
    assert rule in pod_security.broken(pod)


def test_a_pod_that_says_nothing_breaks_what_has_to_be_said() -> None:
    silent: dict[str, Any] = {"spec": {"containers": [{}]}}
    assert pod_security.broken(silent) == ["Capabilities", "Privilege Escalation", "Running as Non-root", "Seccomp"]
