"""Runs jobs on a Kubernetes cluster. Modules that need its client are imported on use: that import is slow."""
