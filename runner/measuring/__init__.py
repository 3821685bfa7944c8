"""Times pipeline calls, checks the images, and derives statistics from the trials."""
