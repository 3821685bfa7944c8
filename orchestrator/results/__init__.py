"""From foreign bytes to rows: fetching, judging and validating results, and importers of other tools' files."""
