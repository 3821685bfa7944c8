"""Stores a run on disk: its folder, its journal, its jobs' states and their logs."""
