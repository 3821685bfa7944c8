"""Fixtures that tests of several folders share."""

from fake_run import fake_run

__all__ = ["fake_run"]
