"""The planning of a migration as a job: what it reads, and where its rows go."""
