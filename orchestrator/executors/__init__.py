"""Executors, one folder per kind of host behind the contract, and what several kinds share."""
