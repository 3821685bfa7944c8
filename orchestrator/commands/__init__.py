"""The commands: one module for each verb, and what they share.

The list of commands is declared here. A command's module is imported when that command runs, so that `--help`,
`--version` and shell completion do not wait for the libraries behind the commands.
"""

from __future__ import annotations

from orchestrator import __version__

# Name: its module in this package, and its line in `orchestrator --help`.
VERBS = {
    "init": ("init", "Write a commented hosts.yaml and matrix.yaml to this folder."),
    "hosts": ("hosts", "List the hosts of the inventory; with --check, test each host."),
    "build": ("build", "Build the runner's images and copy them to each host."),
    "plan": ("plan", "Show what would run where, how long it takes and what it costs."),
    "submit": ("submit", "Run a matrix on all hosts and show the comparison."),
    "resume": ("resume", "Continue an interrupted run."),
    "status": ("status", "Show the progress of a run, by host and job."),
    "logs": ("logs", "Print the log of a job."),
    "cancel": ("cancel", "Cancel a run, or one of its jobs."),
    "clean": ("clean", "Remove what a run left on its hosts: containers, folders, locks."),
    "results": ("results", "Show the results of one or more runs side by side."),
    "compare": ("compare", "Compare two runs: what got slower or faster, and how sure that is."),
    "report": ("report", "Write or serve one HTML page with the results of runs."),
    "import": ("importing", "Import published results, or another tool's, as a run."),
    "runs": ("runs", "List the runs in runs/, or delete some of them."),
}
SUMMARY = "Run a benchmark matrix on every host and merge the results into one table."
OPTIONS = {
    "--version": "Show the version and exit.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Print the completion script of the current shell.",
    "-h, --help": "Show this message and exit.",
}
EXAMPLES = ("init", "submit matrix.yaml", "results --metric throughput")


def page() -> str:
    """The text of `orchestrator --help`. Each line fits in 80 columns."""
    options = [f"  {option:<20}  {help_}" for option, help_ in OPTIONS.items()]
    verbs = [f"  {name:<8} {summary}" for name, (_, summary) in VERBS.items()]
    usage = ["Usage: orchestrator [OPTIONS] COMMAND [ARGS]...", "", f"  {SUMMARY}", ""]
    examples = [f"  orchestrator {words}" for words in EXAMPLES]
    return "\n".join(
        [
            *usage,
            "Options:",
            *options,
            "",
            "Commands:",
            *verbs,
            "",
            "Examples:",
            *examples,
            "",
            "Run 'orchestrator COMMAND --help' for the options of a command.",
        ]
    )


def version() -> str:
    return f"orchestrator {__version__}"
