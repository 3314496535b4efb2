"""Planning of migrations: reads sources and targets, and decides what must be copied."""
