"""Formats in which results leave the runner. Standard library alone: the orchestrator imports this package too."""
