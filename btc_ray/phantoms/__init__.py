"""Synthetic heads for the demo, tests and benchmarks: no patient's image."""
