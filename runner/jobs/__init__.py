"""Runs jobs in child processes, and gives every case a row."""
