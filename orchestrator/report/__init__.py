"""A comparison as text: on a terminal, as CSV, JSON, Markdown. What rows say is untrusted, and is cleaned here once."""
