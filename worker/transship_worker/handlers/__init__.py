"""What is done for each kind of job: a push, a copy, a migration."""
