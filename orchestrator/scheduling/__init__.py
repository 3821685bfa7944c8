"""Drives a run: `policy` decides, `host_loop` acts for one host, `all_hosts` for all, `progress` shows how far it is.

`policy` and the modules that it imports (`actions`, `failures`, `limits`, `retries`, `silence`, `waiting`) are pure.
`effects` carries out actions on a host, and `recording` writes to the journal and the run's folder.
"""
