"""Supervises one process until it ends, even if the orchestrator dies: holds its lock and records its exit code.

It is run by its path, never imported, and uses only the standard library: it starts in milliseconds and uses little
memory next to a benchmark. The caller gets exit code 0 once the process runs, or 1 with the reason on standard error
if it could not start. The shim then stays in a session of its own. The process inherits standard input, which carries
its token.

usage: shim.py FOLDER LOCK_FD COMMAND...
"""

import contextlib
import os
import signal
import subprocess
import sys


def main(folder: str, lock: int, command: list[str]) -> int:
    hear, tell = os.pipe()
    if os.fork() == 0:
        os._exit(attend(folder, lock, command, tell))
    os.close(tell)
    fault = os.read(hear, 4096).decode(errors="replace")
    sys.stderr.write(fault)
    return 1 if fault else 0


def attend(folder: str, lock: int, command: list[str], tell: int) -> int:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):  # meant for the process; a handler is not inherited
        signal.signal(number, lambda *_: None)
    log = os.open(os.path.join(folder, "log.txt"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, 1)
    os.dup2(log, 2)
    try:
        process = subprocess.Popen(command, start_new_session=True, pass_fds=(lock,))
    except OSError as error:
        os.write(tell, str(error).encode())
        return 1
    write(folder, "pid", process.pid)
    os.close(tell)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    write(folder, "exit", exit_code(process))
    return 0


def exit_code(process: "subprocess.Popen[bytes]") -> int:
    """Returns the exit code in the form of a shell and Docker: 128 + N for a process that signal N ended.

    Kills the rest of its process group. Where the system allows, this happens before the process is reaped, while its
    PID cannot be reused.
    """
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        end_group(process.pid)
        code = process.wait()
    else:
        code = process.wait()
        end_group(process.pid)
    return code if code >= 0 else 128 - code


def end_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS returns EPERM for a group of zombies
        os.killpg(group, signal.SIGKILL)


def write(folder: str, name: str, value: int) -> None:
    draft = os.path.join(folder, f".{name}")
    with open(draft, "w") as out:
        out.write(f"{value}\n")
        out.flush()
        os.fsync(out.fileno())
    os.rename(draft, os.path.join(folder, name))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3:]))
