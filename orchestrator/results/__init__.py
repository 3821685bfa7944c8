"""Turns untrusted bytes into rows: fetches and validates results, and imports other tools' files."""
