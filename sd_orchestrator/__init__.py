"""Where the installed command begins: clears Python's path of foreign folders, then loads the command line.

A package of its own, under a name that no other project has: a folder of PYTHONPATH may well hold an `orchestrator`.
"""

import os
import sys


def clear_path(path: list[str], pythonpath: str, working: str) -> list[str]:
    """Python's path without the working folder and what PYTHONPATH names, except the folder that holds this program."""
    home = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))
    foreign = {os.path.realpath(entry) for entry in (*filter(None, pythonpath.split(os.pathsep)), working)} - {home}
    return [entry for entry in path if os.path.realpath(entry or working) not in foreign]


def main() -> None:
    sys.path[:] = clear_path(sys.path, os.environ.get("PYTHONPATH", ""), os.getcwd())
    try:
        from orchestrator.cli import main as command_line

        command_line()
    except KeyboardInterrupt:  # while the command is still being imported: nothing has begun
        sys.exit(130)
