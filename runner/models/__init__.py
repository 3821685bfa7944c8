"""Finds, checks and loads models."""
