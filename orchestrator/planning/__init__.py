"""From a matrix and hosts to jobs: cases, job sizes, estimates, prices and measuring rounds."""
