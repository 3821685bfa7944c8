"""Runs a matrix of Stable Diffusion benchmarks on many hosts, and merges the results into one table."""

__version__ = "0.1.0"
