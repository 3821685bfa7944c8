"""Renders a comparison as terminal text, CSV, JSON or Markdown. Sanitises the rows' untrusted text, once, here."""
