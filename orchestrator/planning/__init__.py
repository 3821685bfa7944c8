"""Plans jobs from a matrix and hosts: cases, job sizes, time estimates, prices and measuring rounds."""
