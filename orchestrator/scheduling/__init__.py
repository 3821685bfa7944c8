"""Driving a run: the pure policy, the loop that follows it, and how far it is."""
