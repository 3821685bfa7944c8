"""Measures Stable Diffusion pipelines on the machine that it runs on."""
