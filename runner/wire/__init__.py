"""Formats in which results leave the runner. The orchestrator imports them too: standard library only."""
