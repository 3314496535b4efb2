"""``python -m tests.matrix engines``: pushes by a real worker from every supported engine."""
