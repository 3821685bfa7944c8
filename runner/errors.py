"""Errors whose message is written for a row's reader: neither a class name nor a traceback is added to it."""

from __future__ import annotations


class Unsupported(Exception):
    """The engine cannot run this job here, whatever is tried: an `unsupported` row with this reason."""


class LoadError(Exception):
    """The model or a device is missing; the message says what to do. One `failed` row per case, no traceback."""
