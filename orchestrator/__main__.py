"""`python -m orchestrator`: the installed command, with no module taken from the working folder."""

from sd_orchestrator import main

if __name__ == "__main__":
    main()
