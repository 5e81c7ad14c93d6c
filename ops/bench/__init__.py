"""Benchmarks: ratios taken in one run, each against its floor. `python -m ops.bench`."""
