"""Programs for people who work on Transship; none is installed."""
