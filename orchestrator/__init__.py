"""Takes a matrix of Stable Diffusion benchmarks to every machine you can reach and brings back one table."""
