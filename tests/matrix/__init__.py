"""Runs of the demo and the tests on fresh systems; ``python -m tests.matrix --help``."""
