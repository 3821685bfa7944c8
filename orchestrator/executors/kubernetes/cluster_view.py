"""Observes a host's attempts from the shared watch, whose objects are listed again while it cannot be trusted.

A look shows what lists in creation order (ConfigMaps, Jobs, pods) could have shown, in these ways:

- Nothing goes back: an object is never older than in the look before, and is missing only after its deletion.
- Each of our own calls that has returned shows in the next look. If its effect is unknown, everything is listed.
- A late watch makes no job lost, and no Job or pod missing: a list confirms it first.
- While a watch is interrupted, looks make lists, with their errors. A watch that sends nothing for 65 s counts as
  interrupted.

`kept`, `informer` and `watched` each ensure a part of it.

A snapshot stays valid until the watch or our own writes signal a change. With many jobs, some pod changes at any
moment and each look goes through all of them, so looks take at most LOOK_SHARE of the time.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from orchestrator.config import KubernetesHost
from orchestrator.executors.contract import Attempt, Observation, State
from orchestrator.executors.kubernetes import listed
from orchestrator.executors.kubernetes.cluster import LONGEST_MESSAGE, Cluster
from orchestrator.executors.kubernetes.evidence import Evidence
from orchestrator.executors.kubernetes.observation import AttemptObjects, observation
from orchestrator.executors.kubernetes.waiting import WaitingEvidence
from orchestrator.executors.kubernetes.watch import ClusterWatch
from orchestrator.executors.kubernetes.watched import WatchedAttempts

# A snapshot is taken this often even if nothing changes, because conclusions from it depend on the time.
REFRESH_S = 15.0
LOOK_SHARE = 0.1
# A host is looked at this often, if its lists need no longer pause.
CHEAP_S = 2.0


@dataclass(frozen=True)
class Snapshot:
    """The result of one look. at, date: its start, by the monotonic clock and by the wall clock.

    told, writes: the number of changes known by then, others' and ours. told: None if it was made of lists. has_gaps:
    whether something was not read yet. unclear: our writes whose effect only a list shows, up to then.
    """

    at: float = 0.0
    date: float = 0.0
    took_s: float = 0.0
    told: int | None = None
    writes: int = -1
    unclear: int = 0
    has_gaps: bool = False
    shown: Mapping[Attempt, AttemptObjects] = field(default_factory=dict)
    evidence: WaitingEvidence = field(default_factory=WaitingEvidence)


class ClusterView:
    """Observes one host. Its snapshot is at most REFRESH_S old, and no job state depends on it."""

    def __init__(self, cluster: Cluster, host: KubernetesHost) -> None:
        self._cluster, self._host = cluster, host
        self._watched = WatchedAttempts(cluster, host)
        self._evidence = Evidence(cluster, host.patience)
        self._last = Snapshot()

    def all(self, watch: ClusterWatch | None) -> dict[Attempt, Observation]:
        """Returns all attempts. watch: the shared one; None if none was started."""
        seen = self._observed(self._seen(watch))
        if self._last.told is not None and any(it.state is State.LOST and it.instance for it in seen.values()):
            # its end may not have arrived yet, such as after a suspend; a lost attempt's log is removed
            seen = self._observed(self._seen(watch, must_list=True))
        return seen

    def _observed(self, sight: Snapshot) -> dict[Attempt, Observation]:
        self._last, now = sight, self._now()
        seen = {a: observation(each, now, self._host.patience, sight.evidence) for a, each in sight.shown.items()}
        return {a: replace(found, reason=found.reason[:LONGEST_MESSAGE]) for a, found in seen.items() if found}

    @property
    def pause_s(self) -> float:
        """How long after the start of a look others' changes stay unseen."""
        return self._last.took_s / LOOK_SHARE

    def _seen(self, watch: ClusterWatch | None, *, must_list: bool = False) -> Snapshot:
        """Returns the last snapshot if it is still valid, else a new one."""
        at, date, writes, unclear = time.monotonic(), time.time(), self._cluster.writes, self._cluster.unclear
        must_list |= unclear != self._last.unclear
        live = watch if watch is not None and not must_list and watch.is_live() else None
        if not must_list and self._stands(live, writes, unclear):
            return self._last
        told = live.told if live else None
        if watch is None:
            shown = listed.attempts(self._cluster, self._host)
        else:
            if live is None:
                # while watches are interrupted, hosts of one namespace share their lists
                watch.refresh(at if must_list else at - CHEAP_S, self._cluster)
            shown = self._watched.attempts(watch, self._now())
        evidence = self._evidence.of(shown.values(), self._now(), live)
        has_gaps = watch is not None and self._watched.has_gaps
        took_s = time.monotonic() - at - self._evidence.paused_s
        return Snapshot(at, date, took_s, told, writes, unclear, has_gaps, shown, evidence)

    def _stands(self, watch: ClusterWatch | None, writes: int, unclear: int) -> bool:
        # the monotonic clock stops while this machine is suspended
        sight, age_s = self._last, max(time.monotonic() - self._last.at, time.time() - self._last.date)
        if (sight.writes, sight.unclear) != (writes, unclear) or age_s > REFRESH_S:
            return False
        if watch is None:
            return sight.told is None and max(age_s, CHEAP_S) < self.pause_s
        if sight.told is None:
            return False
        return age_s < self.pause_s or (sight.told == watch.told and not sight.has_gaps)

    def _now(self) -> float:
        """Returns the cluster's time."""
        return time.time() + self._cluster.skew_s
