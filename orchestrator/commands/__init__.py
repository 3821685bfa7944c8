"""The commands: one module for each verb, and what they share."""
