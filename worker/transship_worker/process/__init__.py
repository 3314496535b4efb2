"""One worker process: its parts, started and stopped in order."""
