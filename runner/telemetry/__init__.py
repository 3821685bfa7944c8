"""Observes the machine: its hardware and limits, and what disturbs a measurement."""
