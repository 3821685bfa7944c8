"""`python -m orchestrator`: the installed command, with no module taken from the working folder."""

from orchestrator.entry import main

if __name__ == "__main__":
    main()
