"""Jobs of a Kubernetes cluster. The modules that need its client are imported by whoever needs them: it is slow."""
