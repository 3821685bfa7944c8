"""A run on disk: its folder, its journal, the states of its jobs, and their logs."""
