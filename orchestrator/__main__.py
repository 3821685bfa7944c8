"""`python -m orchestrator`: the command line, with no module taken from the working folder."""

import sys

# Python puts the working folder, or this file's own, first on the path: a file there (queue.py, rich.py) must not run.
if __name__ == "__main__" and not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
    del sys.path[0]

from orchestrator.cli import main

if __name__ == "__main__":
    main()
