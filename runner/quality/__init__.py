"""Compares images with a reference."""
