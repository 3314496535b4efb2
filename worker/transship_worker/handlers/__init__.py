"""One handler for each kind of job: a push, a copy, a migration."""
