"""The command line: parse, one call, print. Exit codes are decided here alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from orchestrator.commands import completion as complete
from orchestrator.errors import BadResult, HostUnfit, HostUnreachable, ImageError, InputError
from orchestrator.table.metric import Metric
from orchestrator.terminal.interrupts import ABORTED, INTERRUPTED

if TYPE_CHECKING:
    from rich.console import Console

    from orchestrator.commands.driving import Outcome
    from orchestrator.run import Run
    from orchestrator.table.comparison import Comparison
    from runner.schema import Row

OK, SOME_FAILED, BAD_INPUT = 0, 1, 2
INVENTORY = Path("hosts.yaml")


class Commands(TyperGroup):
    """The commands; a bad value of an option is told in the words of the files, where typer repeats pydantic's."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except typer.BadParameter as error:
            from orchestrator.config.problems import of_option

            error.message = of_option(error.__cause__) or error.message
            raise


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

# Made by `begin` before any command runs: --help, --version and completion do without the library behind them.
out: Console
err: Console


class Format(str, Enum):
    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "md"


class Shape(str, Enum):
    TABLE = "table"
    JSON = "json"


class PlanShape(str, Enum):
    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def examples(*lines: str) -> str:
    """The end of a command's help: lines to copy, which the tests parse."""
    return "\n".join(["\b", "Examples:", *(f"  orchestrator {line}" for line in lines)])


def _duration(text: str) -> float:
    from orchestrator.config.values import duration_s

    seconds = duration_s(text)
    if not isinstance(seconds, float):
        raise typer.BadParameter(f"{text!r} is no duration; write 90s, 15m or 1h30m")
    return seconds


MatrixFile = Annotated[Path, typer.Argument(metavar="MATRIX.YAML", help="The matrix to run.")]
HostNames = Annotated[
    str | None,
    typer.Option(
        "--hosts", metavar="A,B", help="Only these hosts of the inventory.", autocompletion=complete.host_names
    ),
]
Inventory = Annotated[
    Path | None,
    typer.Option("--inventory", metavar="FILE", help="Default: hosts.yaml in this folder, else this machine alone."),
]
Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=V[,V]", help="Replace an axis or a value of the matrix.")
]
RunName = Annotated[
    str | None, typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=complete.run_names)
]
Wheels = Annotated[
    Path | None,
    typer.Option(
        "--wheels",
        metavar="DIR",
        exists=True,
        file_okay=False,
        help="Build offline, from the wheels in this folder.",
    ),
]
Registry = Annotated[
    str | None,
    typer.Option("--push", metavar="REGISTRY", help="Push the images to this registry, and let the hosts pull them."),
]
MetricsFile = Annotated[
    Path | None,
    typer.Option(
        "--metrics-file",
        metavar="FILE.prom",
        dir_okay=False,
        help="Keep the run's state in this file, for the textfile collector of Prometheus' node exporter.",
    ),
]
Detached = Annotated[
    bool, typer.Option("--detach", "-d", help="Drive the run in the background; it survives this terminal.")
]
Tell = Annotated[int | None, typer.Option("--tell", hidden=True, help="The pipe on which --detach waits.")]
TableOrJson = Annotated[Shape, typer.Option("-o", help="Output format.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"orchestrator {version('sd-orchestrator')}")
        raise typer.Exit


@app.callback(epilog=examples("init", "submit matrix.yaml", "results --metric throughput"))
def begin(
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_version, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run a benchmark matrix on every host and merge the results into one table."""
    _open_consoles()


def _open_consoles() -> None:
    global out, err
    from orchestrator.terminal.console import console

    out, err = console(), console(stderr=True)


@app.command(epilog=examples("init"))
def init() -> None:
    """Write a commented hosts.yaml and matrix.yaml here, or the one that is missing."""
    from orchestrator import config

    for path in config.init(Path()):
        out.print(path)


@app.command(epilog=examples("hosts", "hosts --check --hosts gpu1,gpu2", "hosts -o json"))
def hosts(
    check: Annotated[
        bool, typer.Option("--check", help="Connect to each host; exit code 1 if one cannot run its jobs.")
    ] = False,
    names: HostNames = None,
    inventory: Inventory = None,
    shape: TableOrJson = Shape.TABLE,
) -> None:
    """Show the hosts of the inventory; with --check, connect to each.

    The check covers the engine, GPUs, toolkit, disk, images and clock, and says how to fix what is wrong.
    """
    from orchestrator import config
    from orchestrator.commands import show
    from orchestrator.executors.finding import Grade

    chosen = config.select(config.load_hosts(_inventory(inventory), _names(names)), _names(names))
    if not check:
        show.hosts(chosen, out) if shape is Shape.TABLE else show.as_json(show.hosts_value(chosen), out)
        return
    from orchestrator.fleet import checkup

    found = checkup.check_all(chosen)
    show.findings(found, out) if shape is Shape.TABLE else show.as_json(show.findings_value(found), out)
    problems = [finding for its in found.values() for finding in its if finding.grade is Grade.PROBLEM]
    raise typer.Exit(SOME_FAILED if problems else OK)


@app.command(epilog=examples("build", "build --hosts gpu1 --push registry.example.com/bench"))
def build(names: HostNames = None, inventory: Inventory = None, push: Registry = None, wheels: Wheels = None) -> None:
    """Build the runner's images, and copy them to each host.

    Each image is built once, and copied to the hosts that lack it. `submit` does this too.
    """
    from orchestrator import config, fleet
    from orchestrator.commands import show
    from orchestrator.terminal.live import image_progress

    chosen = config.select(config.load_hosts(_inventory(inventory), _names(names)), _names(names))
    with image_progress(err) as progress:
        built = fleet.build(chosen, registry=push, wheels=wheels, progress=progress)
    show.images(built, out, err)
    raise typer.Exit(SOME_FAILED if any(isinstance(outcome, Exception) for outcome in built.values()) else OK)


@app.command(
    epilog=examples(
        "plan matrix.yaml",
        "plan matrix.yaml --set engine=compile --set samples=1,2 -o json",
        "plan matrix.yaml --hosts lab-a100 -o yaml",
    )
)
def plan(
    matrix: MatrixFile,
    names: HostNames = None,
    overrides: Overrides = None,
    inventory: Inventory = None,
    shape: Annotated[
        PlanShape, typer.Option("-o", help="Output format. yaml: the objects that Kubernetes hosts would get.")
    ] = PlanShape.TABLE,
    containers: Annotated[bool, typer.Option("--containers", help="Print each container's spec as JSON.")] = False,
) -> None:
    """Show what would run where, how long it takes and what it costs.

    Also shows what would not run, and why. Runs nothing and connects to no host.
    """
    from orchestrator import links
    from orchestrator.commands import driving as launch
    from orchestrator.commands import show
    from orchestrator.plan import describe

    request = launch.Request(matrix, _inventory(inventory), _names(names), tuple(overrides or ()))
    planned, chosen, _ = launch.make_ready(request)
    description = describe(planned, chosen)
    for warning in links.warnings(planned.jobs, chosen):
        err.print(warning, style="yellow", markup=False, soft_wrap=True)
    if containers:
        show.as_json(launch.containers(planned, chosen), out)
    elif shape is PlanShape.YAML:
        show.as_yaml(launch.objects(planned, chosen), out)
    elif shape is PlanShape.JSON:
        show.as_json(show.plan_value(description), out)
    else:
        show.plan(description, out)


@app.command(
    epilog=examples(
        "submit matrix.yaml",
        "submit matrix.yaml --hosts gpu1,gpu2 --set samples=1,2 --name quick",
        "submit matrix.yaml --detach",
    )
)
def submit(
    context: typer.Context,
    matrix: MatrixFile,
    names: HostNames = None,
    overrides: Overrides = None,
    name: Annotated[str | None, typer.Option("--name", help="Name of the run. Default: the matrix's.")] = None,
    inventory: Inventory = None,
    push: Registry = None,
    wheels: Wheels = None,
    lost_after: Annotated[
        float, typer.Option(parser=_duration, metavar="TIME", help="Give up a host that does not answer for this long.")
    ] = "15m",  # type: ignore[assignment]  # typer parses defaults too
    metrics_file: MetricsFile = None,
    detach: Detached = False,
    shape: TableOrJson = Shape.TABLE,
    tell: Tell = None,
) -> None:
    """Run a matrix on all hosts and show the comparison.

    Ctrl-C leaves the jobs running on their hosts; `resume` continues the run. Exit code: 0 no case failed (`oom` and
    `unsupported` are results), 1 some case failed, 2 the input is wrong and nothing ran, or the run's folder cannot be
    written, 3 interrupted with work left, 130 on a second Ctrl-C, or on the first one before anything runs.
    """
    if detach and tell is None:
        _start_in_background(context.obj, shape)
    from orchestrator.commands import driving as launch

    request = launch.Request(
        matrix,
        _inventory(inventory),
        _names(names),
        (*(overrides or ()), *([] if name is None else [f"name={name}"])),
        push,
        wheels,
        lost_after,
        metrics_file,
    )
    _end(launch.submit(request, err, _leaver(tell)), shape)


@app.command(epilog=examples("resume", "resume 20260301-120000 --retry-lost"))
def resume(
    context: typer.Context,
    run: RunName = None,
    names: Annotated[
        str | None,
        typer.Option("--hosts", metavar="A,B", help="Only these of its hosts; jobs of others stay open."),
    ] = None,
    push: Registry = None,
    wheels: Wheels = None,
    lost_after: Annotated[
        float | None,
        typer.Option(
            parser=_duration,
            metavar="TIME",
            help="Give up a host that does not answer for this long. Default: as at submit.",
        ),
    ] = None,
    retry_lost: Annotated[
        bool,
        typer.Option("--retry-lost", help="Also try lost cases again; their rows stay until then."),
    ] = False,
    metrics_file: MetricsFile = None,
    detach: Detached = False,
    shape: TableOrJson = Shape.TABLE,
    tell: Tell = None,
) -> None:
    """Continue a run that was interrupted.

    Follows the jobs that still run, collects those that have ended, and starts the others. A host that did not answer
    before gets its images from a host that has them. Exit codes are those of `submit`.
    """
    if detach and tell is None:
        _start_in_background(context.obj, shape)
    from orchestrator import run as runs
    from orchestrator.commands import driving as launch

    asked = launch.Resumption(_names(names), push, wheels, lost_after, retry_lost, metrics_file)
    _end(launch.resume(runs.find(runs.ROOT, run, driven=True), err, asked, _leaver(tell)), shape)


@app.command(epilog=examples("status", "status quick -o json"))
def status(run: RunName = None, shape: TableOrJson = Shape.TABLE) -> None:
    """Show how far a run is, by host and job.

    Lists the attempts at each job, and why an attempt failed.
    """
    from orchestrator import earlier
    from orchestrator import run as runs
    from orchestrator.commands import show
    from orchestrator.journal import Journal

    found = runs.find(runs.ROOT, run, driven=True)
    with closing(Journal.open(found.journal)) as journal:
        value = show.status_value(found, journal, earlier.history())
    if shape is Shape.JSON:
        show.as_json(value, out)
    else:
        show.status(value, out)
        _tell_lost(found)


@app.command(epilog=examples("logs -f", "logs quick 3cac81 --tail 20", "logs 3cac81 --json"))
def logs(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=complete.runs_and_jobs),
    ] = None,
    job: Annotated[
        str | None,
        typer.Argument(
            metavar="JOB", help="Default: its only job, or the only one that runs.", autocompletion=complete.job_ids
        ),
    ] = None,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Wait for the job, and go on until it ends.")] = False,
    tail: Annotated[int | None, typer.Option("--tail", metavar="N", min=0, help="Only the last N lines.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object per line, with times in epoch seconds.")
    ] = False,
) -> None:
    """Print the log of a job: what its runner reports, and what libraries print.

    From its host while it runs, from the run's folder afterwards. JOB is an id that `status` shows, or its beginning,
    and RUN may be left out before it.
    """
    from orchestrator import joblog
    from orchestrator import run as runs

    chosen, its_job = joblog.choose(runs.ROOT, [word for word in (run, job) if word is not None])
    lines = joblog.lines(chosen, its_job, follow=follow, tail=tail, say=lambda text: err.print(text, soft_wrap=True))
    try:
        for line in joblog.as_json(lines) if as_json else (joblog.in_words(its_job, line) for line in lines):
            out.print(line, soft_wrap=True)
    except KeyboardInterrupt:
        raise typer.Exit(ABORTED) from None


run_commands = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
app.add_typer(run_commands, name="runs")


@run_commands.callback(epilog=examples("runs", "runs -o json"))
def list_runs(context: typer.Context, shape: TableOrJson = Shape.TABLE) -> None:
    """List the runs in runs/ with their state and size, or delete some."""
    if context.invoked_subcommand is not None:
        return
    from orchestrator import run as runs
    from orchestrator.commands import runlist, show

    found = list(runlist.summaries(runs.ROOT))
    show.run_list(found, runs.ROOT, out) if shape is Shape.TABLE else show.as_json(show.run_list_value(found), out)


@run_commands.command(epilog=examples("runs delete quick", "runs delete 20260301 --yes"))
def delete(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN", help="Names of the runs, or unique parts of them.", autocompletion=complete.run_names
        ),
    ],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Delete without asking.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Delete although hosts still hold its containers or do not answer.")
    ] = False,
) -> None:
    """Delete runs: their rows, logs and journals in runs/.

    Refused while a run is driven. Refused without --force while its hosts still hold containers or process folders of
    it; `orchestrator clean RUN` removes those. Objects in a store stay: `orchestrator clean RUN --stored` deletes them.
    """
    from orchestrator import run as runs
    from orchestrator.commands import runlist

    chosen = runlist.named(runs.ROOT, run)
    with runlist.deletable(chosen, force=force):
        if not yes:
            for each in chosen:
                err.print(str(each.path), soft_wrap=True)
            _confirm(f"Delete {'this run' if len(chosen) == 1 else f'these {len(chosen)} runs'}?")
        for each in chosen:
            runlist.delete(each)
            err.print(f"Deleted {each.path}", soft_wrap=True)


def _confirm(question: str) -> None:
    """Raises InputError where nobody can answer, and leaves with exit code 1 where the answer is no."""
    if not sys.stdin.isatty():
        raise InputError(f"{question} Nobody can answer: standard input is not a terminal. fix: add --yes")
    if not typer.confirm(question, err=True):
        raise typer.Exit(SOME_FAILED)


@app.command(epilog=examples("cancel quick", "cancel quick 3cac81"))
def cancel(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or part of it.", autocompletion=complete.run_names),
    ],
    job: Annotated[
        str | None, typer.Argument(metavar="JOB", help="Default: all jobs.", autocompletion=complete.job_ids)
    ] = None,
) -> None:
    """Cancel a run, or one of its jobs.

    Rows that they have measured are kept. Trials of a case under way are kept in its row, which is `cancelled` and
    never ranks.
    """
    from orchestrator import run as runs
    from orchestrator.commands import driving as launch

    found = runs.find(runs.ROOT, run, driven=True)
    asked = launch.cancel(found, job)
    err.print(
        f"Asked for the end of {len(asked)} job{'s' if len(asked) > 1 else ''}." if asked else "No job of it is open."
    )
    if asked and not found.is_driven:
        _end(launch.resume(found, err))


@app.command(epilog=examples("clean", "clean quick --dry-run", "clean quick --running"))
def clean(
    run: Annotated[
        str | None,
        typer.Argument(metavar="RUN", help="Without it, list what every run left.", autocompletion=complete.run_names),
    ] = None,
    running: Annotated[bool, typer.Option("--running", help="Also stop what still runs; its rows are lost.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be removed, and remove nothing.")] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="Also delete its objects in the object stores of its hosts.")
    ] = False,
    names: HostNames = None,
    inventory: Inventory = None,
    shape: TableOrJson = Shape.TABLE,
) -> None:
    """Remove what a run left on its hosts: containers, folders, locks.

    Its rows, logs and journal stay, and so do images. What runs, or has rows that are not home yet, is left alone.
    Where the run's folder is gone its whole name will do, and the hosts are those of hosts.yaml. Without RUN: list
    what every run has on the hosts, and remove nothing. Exit code 1 where something of the run stays.
    """
    from orchestrator import config
    from orchestrator import run as runs
    from orchestrator.commands import leftovers as cleaning
    from orchestrator.commands import show

    if run is None:
        found = cleaning.survey(config.select(config.load_hosts(_inventory(inventory), _names(names)), _names(names)))
        show.runs_left(found, runs.ROOT, out) if shape is Shape.TABLE else show.as_json(show.left_value(found), out)
        show.failures(found.failed, err)
        raise typer.Exit(SOME_FAILED if found.failed else OK)
    folder = cleaning.locate(runs.ROOT, run)
    if folder is not None and inventory is None:
        hosts = cleaning.hosts_of(folder)
    else:
        hosts = config.select(config.load_hosts(_inventory(inventory), _names(names)), _names(names))

    def tell(survey: cleaning.Survey) -> bool:
        show.left(survey, run, out) if shape is Shape.TABLE else show.as_json(show.left_value(survey), out)
        return not dry_run

    found = cleaning.clean(run if folder is None else folder.name, folder, hosts, running=running, tell=tell)
    show.failures(found.failed, err)
    if stored and not dry_run:
        for where, count in cleaning.remove_stored(run if folder is None else folder.name, folder, hosts).items():
            err.print(f"{where}: {count} objects deleted", soft_wrap=True)
    raise typer.Exit(OK if found.is_clean else SOME_FAILED)


@app.command(epilog=examples("results", "results quick lambda --metric throughput --baseline gpu1", "results -o csv"))
def results(
    run: Annotated[
        list[str] | None,
        typer.Argument(metavar="RUN", help="Default: the newest run.", autocompletion=complete.run_names),
    ] = None,
    metric: Annotated[Metric, typer.Option("--metric", help="The quantity to compare.")] = Metric.LATENCY,
    baseline: Annotated[
        str | None, typer.Option("--baseline", metavar="HOST|ENGINE", help="What ratios compare with. Default: eager.")
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", metavar="FILE", help="HOST: PRICE PER HOUR, as YAML or CSV; over hosts.yaml's."),
    ] = None,
    inventory: Inventory = None,
    any_quality: Annotated[
        bool, typer.Option("--any-quality", help="Rows that draw visibly another image may be called best, too.")
    ] = False,
    shape: Annotated[Format, typer.Option("-o", help="Output format.")] = Format.TABLE,
) -> None:
    """Show the results of one or more runs side by side.

    A run may also be an address, s3://BUCKET/PREFIX/RUN: it is then read from the object store.
    """
    from orchestrator import run as runs
    from orchestrator.commands import driving as launch

    names: Sequence[str | None] = run or [None]
    stored = [row for name in names if name and name.startswith("s3://") for row in _stored(name)]
    chosen = [runs.find(runs.ROOT, name) for name in names if not (name and name.startswith("s3://"))]
    found = launch.comparison(chosen, metric, baseline, stored, _inventory(inventory), prices, any_quality)
    _print(found, shape)
    for each in chosen:
        _tell_lost(each)


def _stored(address: str) -> Sequence[Row]:
    from orchestrator.store import reading

    found = reading.read(address)
    for fault in found.refused[:20]:
        err.print(fault, style="yellow", markup=False, soft_wrap=True)
    if len(found.refused) > 20:
        err.print(f"… and {len(found.refused) - 20} more rows are not believed", style="yellow", soft_wrap=True)
    err.print(f"{found.name}: {len(found.rows)} rows", soft_wrap=True)
    if found.missing:
        err.print(f"Not all of it has come yet: {', '.join(found.missing)}", style="yellow", soft_wrap=True)
    return found.rows


@app.command("import", epilog=examples("import benchmark.csv --name lambda", "import other.csv --ignore 'gpu_*'"))
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE.CSV", help="Such as the Lambda benchmark's benchmark.csv.")],
    name: Annotated[str | None, typer.Option("--name", help="Name of the run. Default: the file's.")] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(
            "--ignore", metavar="COLUMN", help="An unknown column that is no setting; `*` stands for any text."
        ),
    ] = None,
) -> None:
    """Import published results, or another tool's, as a run.

    `results RUN RUN` then shows them beside yours. Columns of other names are taken as settings: rows that differ there
    are unlike.
    """
    from orchestrator.commands import driving as launch

    imported = launch.import_rows(file, name, ignore or ())
    rows = imported.all_rows()
    out.print(f"{len(rows)} rows in {imported.path}", soft_wrap=True)
    settings = list(dict.fromkeys(name for row in rows for name in row.other_settings))
    if settings:
        names = ", ".join(map(repr, settings[:20])) + (", …" if len(settings) > 20 else "")
        err.print(
            f"Taken as settings: {names}. If some are results: import again with --ignore COLUMN",
            style="yellow",
            markup=False,
            soft_wrap=True,
        )


def _inventory(given: Path | None) -> Path | None:
    return given or (INVENTORY if INVENTORY.exists() else None)


def _names(given: str | None) -> tuple[str, ...]:
    """Raises InputError where none is named: an empty shell variable must not mean every host there is."""
    if given is None:
        return ()
    names = tuple(name.strip() for name in given.split(",") if name.strip())
    if not names:
        raise InputError(f"--hosts {given!r} names no host; leave it out for all of them")
    return names


def _print(comparison: Comparison, shape: Format) -> None:
    from orchestrator.report import document, text
    from orchestrator.report.terminal import terminal

    match shape:
        case Format.TABLE:
            terminal(comparison, out)
        case Format.CSV:
            print(text.to_csv(comparison), end="")
        case Format.JSON:
            print(document.to_json(comparison), end="")
        case Format.MARKDOWN:
            print(text.to_markdown(comparison), end="")


def _start_in_background(words: Sequence[str], shape: Shape) -> None:
    """Says how to follow the run, and leaves."""
    from orchestrator.commands import detach, show

    try:
        told = detach.start(words)
    except detach.NotStartedError as error:
        raise typer.Exit(error.code) from None
    show.as_json(told, out) if shape is Shape.JSON else show.detached(told, out)
    raise typer.Exit(OK)


def _leaver(tell: int | None) -> Callable[[Run], Console] | None:
    """For the background process: leaves the terminal once the run is ready to be driven."""
    if tell is None:
        return None
    from orchestrator.commands import detach

    def leave(run: Run) -> Console:
        detach.leave_terminal(run, tell)
        _open_consoles()
        return err

    return leave


def _end(outcome: Outcome, shape: Shape = Shape.TABLE) -> None:
    """The table of a run that was driven, where it lies, and the exit code that says how it went."""
    from orchestrator.commands import driving as launch
    from orchestrator.commands import show

    code = INTERRUPTED if not outcome.finished else SOME_FAILED if outcome.has_faults else OK
    if shape is Shape.JSON:
        show.as_json(show.outcome_value(outcome, code), out)
    elif outcome.rows:
        _print(launch.comparison([outcome.run], Metric.LATENCY, None), Format.TABLE)
    err.print(f"Run: {outcome.run.path}", soft_wrap=True)
    _tell_lost(outcome.run)
    if not outcome.finished:
        err.print(
            f"There is work left; go on with: orchestrator resume {outcome.run.name}", style="yellow", soft_wrap=True
        )
    raise typer.Exit(code)


def _tell_lost(run: Run) -> None:
    """How to try a run's lost cases again; nothing where it has none, or was not run here."""
    from runner.schema import Status

    count = sum(row.status is Status.LOST for row in run.all_rows()) if run.journal.exists() else 0
    if count:
        cases = "1 case is lost; to try it" if count == 1 else f"{count} cases are lost; to try them"
        err.print(f"{cases} again: orchestrator resume {run.name} --retry-lost", style="yellow", soft_wrap=True)


def _complain(problem: str) -> None:
    from orchestrator.terminal.console import console

    console(stderr=True).print(f"error: {problem}", style="red", soft_wrap=True)


def main(words: Sequence[str] | None = None) -> None:
    """The entry point: an error that the user can fix is one message and exit code 2, never a traceback."""
    try:
        try:
            app(words, obj=list(sys.argv[1:] if words is None else words))
        finally:
            sys.stdout.flush()  # a disk that is full is told now, and not by the interpreter's end
    except InputError as error:
        for problem in error.problems:
            _complain(problem)
    except (HostUnreachable, HostUnfit, ImageError, BadResult) as error:
        _complain(str(error))
    except OSError as error:  # a full disk behind `>`, a folder that went away
        _complain(f"{error.filename or 'standard output'}: {error.strerror}")
        stdout = sys.__stdout__
        if error.filename is None and stdout is not None and stdout is sys.stdout:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())  # else the interpreter's end tries once more
    sys.exit(BAD_INPUT)
