"""Running it: command line, settings, composition root, backup, verification, benchmarks."""
