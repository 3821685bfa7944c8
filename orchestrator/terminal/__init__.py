"""The terminal: where commands print, live progress, and interrupts."""
