"""How jobs, cases and outcomes are named on a terminal: by what tells the jobs of a run apart."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from orchestrator.report.labels import label, telling
from runner.catalog import NONE, OPTIONS, SETTINGS
from runner.schema import Case, Job, Row

LONGEST = 40


class Labels:
    """Names by engine, precision and options, and by the settings in which a run's jobs differ."""

    def __init__(self, jobs: Iterable[Job]) -> None:
        self._settings = varying(jobs)

    def job(self, asked: Job | Row) -> str:
        precision = asked.precision.value if isinstance(asked, Job) else str(asked.precision)
        return " ".join([str(asked.engine), precision, *options(asked), *self._told(asked)])

    def case(self, job: Job, case: Case) -> str:
        return f"{self.job(job)} samples {case.samples}"

    def outcome(self, row: Row) -> str:
        """Returns one line that says how a case ended."""
        status = row.status.value if row.status else "?"
        what = f"{self.job(row)} samples {row.batch}: {status}"
        return what + (f": {row.error}" if row.error and row.error != status else "")

    def _told(self, asked: Job | Row) -> Iterator[str]:
        for name in self._settings:
            text = setting(getattr(asked, name))
            yield text if name == "model" else f"{name} {text}"


def varying(asked: Iterable[object]) -> tuple[str, ...]:
    """Returns the settings that tell jobs, or lines of a plan, apart."""
    asked = list(asked)
    return telling({name: [getattr(each, name) for each in asked] for name in SETTINGS})


def setting(value: str | float | bool | None) -> str:
    """Formats a setting's value. None is the model's own."""
    return "default" if value is None else label(value, LONGEST)


def options(asked: Job | Row) -> list[str]:
    """Returns the options that a job or a row uses, such as `offload model`."""
    used = ((name, getattr(asked, name)) for name in OPTIONS)
    return [f"{name.replace('_', ' ')} {value}" for name, value in used if value not in (None, NONE)]
