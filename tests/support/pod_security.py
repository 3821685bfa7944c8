"""The Pod Security Standard "restricted" (with "baseline" in it), rule by rule: which ones a pod breaks.

The lab's API server is older than Pod Security admission, so the rules stand here, each by its name in
https://kubernetes.io/docs/concepts/security/pod-security-standards/ as of Kubernetes 1.34.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

Spec = Mapping[str, Any]
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
CONFINED = {"RuntimeDefault", "Localhost"}
SELINUX_TYPES = {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
SYSCTLS = {
    "kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}  # fmt: skip


def broken(pod: Spec) -> list[str]:
    """The names of the rules that a pod template (`metadata`, `spec`) breaks."""
    return [rule for rule, holds in RULES.items() if not holds(pod)]


def _containers(pod: Spec) -> Iterator[Spec]:
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from pod["spec"].get(kind) or ()


def _contexts(pod: Spec) -> list[Spec]:
    """The pod's own security context, and each container's."""
    return [spec.get("securityContext") or {} for spec in (pod["spec"], *_containers(pod))]


def _every(condition: Callable[[Spec], bool]) -> Callable[[Spec], bool]:
    return lambda pod: all(map(condition, _contexts(pod)))


def _every_container(condition: Callable[[Spec], bool]) -> Callable[[Spec], bool]:
    return lambda pod: all(condition(container.get("securityContext") or {}) for container in _containers(pod))


def _said_for_all(condition: Callable[[Spec], bool]) -> Callable[[Spec], bool]:
    """Said by the pod, for containers that say nothing, or by each container."""
    return lambda pod: condition(_contexts(pod)[0]) or _every_container(condition)(pod)


def _added(context: Spec) -> set[str]:
    return set((context.get("capabilities") or {}).get("add") or ())


def _hooks(pod: Spec) -> Iterator[Spec]:
    for container in _containers(pod):
        probes = [container.get(f"{kind}Probe") or {} for kind in ("liveness", "readiness", "startup")]
        yield from (*probes, *(container.get("lifecycle") or {}).values())


def _no_hook_to_a_host(pod: Spec) -> bool:
    return not any((hook.get(way) or {}).get("host") for hook in _hooks(pod) for way in ("httpGet", "tcpSocket"))


def _apparmor(pod: Spec) -> bool:
    said = (pod.get("metadata", {}).get("annotations") or {}).items()
    beta = [value for key, value in said if key.startswith("container.apparmor.security.beta.kubernetes.io/")]
    types = [(context.get("appArmorProfile") or {}).get("type", "RuntimeDefault") for context in _contexts(pod)]
    return all(value == "runtime/default" or value.startswith("localhost/") for value in beta) and {*types} <= CONFINED


def _selinux(context: Spec) -> bool:
    options = context.get("seLinuxOptions") or {}
    return options.get("type", "") in SELINUX_TYPES and not (options.get("user") or options.get("role"))


RULES: Mapping[str, Callable[[Spec], bool]] = {
    "HostProcess": _every(lambda c: not (c.get("windowsOptions") or {}).get("hostProcess")),
    "Host Namespaces": lambda pod: not any(pod["spec"].get(key) for key in ("hostNetwork", "hostPID", "hostIPC")),
    "Privileged Containers": _every_container(lambda c: not c.get("privileged")),
    "Capabilities": _every_container(
        lambda c: "ALL" in ((c.get("capabilities") or {}).get("drop") or ()) and _added(c) <= {"NET_BIND_SERVICE"}
    ),
    "HostPath Volumes": lambda pod: not any("hostPath" in volume for volume in pod["spec"].get("volumes") or ()),
    "Host Ports": lambda pod: not any(port.get("hostPort") for c in _containers(pod) for port in c.get("ports") or ()),
    "Host Probes / Lifecycle Hooks": _no_hook_to_a_host,
    "AppArmor": _apparmor,
    "SELinux": _every(_selinux),
    "/proc Mount Type": _every_container(lambda c: c.get("procMount", "Default") == "Default"),
    "Sysctls": _every(lambda c: {sysctl["name"] for sysctl in c.get("sysctls") or ()} <= SYSCTLS),
    "Volume Types": lambda pod: all({*volume} - {"name"} <= VOLUMES for volume in pod["spec"].get("volumes") or ()),
    "Privilege Escalation": _every_container(lambda c: c.get("allowPrivilegeEscalation") is False),
    "Running as Non-root": lambda pod: (
        _said_for_all(lambda c: c.get("runAsNonRoot") is True)(pod)
        and _every_container(lambda c: c.get("runAsNonRoot") is not False)(pod)
    ),
    "Running as Non-root user": _every(lambda c: c.get("runAsUser") != 0),
    "Seccomp": lambda pod: (
        _said_for_all(lambda c: (c.get("seccompProfile") or {}).get("type") in CONFINED)(pod)
        and _every(lambda c: (c.get("seccompProfile") or {}).get("type") != "Unconfined")(pod)
    ),
}
