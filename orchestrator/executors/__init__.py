"""Executors: one folder per kind of host, the contract that they implement, and shared helpers."""
