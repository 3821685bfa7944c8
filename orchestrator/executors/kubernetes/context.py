"""Which cluster a host entry means: the kubeconfig's contexts, or the pod that we run in. Never a silent default."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from kubernetes.client import Configuration
from kubernetes.config import ConfigException, incluster_config, kube_config
from yaml import YAMLError

from orchestrator.config import KubernetesHost
from orchestrator.config.problems import nearest
from orchestrator.errors import InputError

POOL_SIZE = 64
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


@dataclass(frozen=True)
class Context:
    """Where the API is, and as whom. configure: reads the credentials anew: a token may have been renewed since."""

    name: str
    namespace: str
    configure: Callable[[], Configuration]


def resolve(host: KubernetesHost, environ: Mapping[str, str] = os.environ) -> Context:
    """Raises InputError where the context is not there, with the names that are."""
    file = environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    there = any(Path(part).expanduser().exists() for part in file.split(os.pathsep))
    if not there and host.context is None and "KUBERNETES_SERVICE_HOST" in environ:
        return _in_cluster(host)
    if not there:
        raise InputError(
            f"host {host.name}: there is no kubeconfig {file}; set KUBECONFIG, or have the cluster's admin give you one"
        )
    try:
        found = kube_config.KubeConfigMerger(file).config.value
        by_name = {e.value["name"]: e.value.get("context") or {} for e in found.get("contexts") or ()}
    except (ConfigException, OSError, ValueError, LookupError, TypeError, AttributeError, YAMLError) as error:
        raise InputError(f"host {host.name}: kubeconfig {file} cannot be read: {error}") from error
    name = host.context or found.get("current-context")
    if not name:
        raise InputError(
            f"host {host.name}: kubeconfig {file} has no current context; give the host one: context: NAME"
            f"{nearest('', by_name)}"
        )
    if name not in by_name:
        raise InputError(f"host {host.name}: kubeconfig {file} has no context {name!r}{nearest(str(name), by_name)}")
    return Context(
        str(name),
        host.namespace or by_name[name].get("namespace") or "default",
        lambda: _configuration(host.name, file, str(name)),
    )


def _configuration(host: str, file: str, context: str) -> Configuration:
    made = _blank()
    try:
        kube_config.load_kube_config(file, context, made)
    except (ConfigException, OSError, ValueError) as error:
        raise InputError(f"host {host}: context {context} of {file}: {error}") from error
    return made


def _in_cluster(host: KubernetesHost) -> Context:
    def configure() -> Configuration:
        made = _blank()
        try:
            incluster_config.load_incluster_config(made)
        except ConfigException as error:
            raise InputError(f"host {host.name}: this pod's service account: {error}") from error
        return made

    own = SERVICE_ACCOUNT / "namespace"
    namespace = own.read_text().strip() if own.exists() else "default"
    return Context("(this pod's)", host.namespace or namespace, configure)


def _blank() -> Configuration:
    made = Configuration()
    made.connection_pool_maxsize = POOL_SIZE
    return made
