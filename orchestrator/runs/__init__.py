"""A run on disk: its folder, its journal and the logs of its jobs."""
