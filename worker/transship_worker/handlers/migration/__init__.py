"""The handler that plans a migration: what it reads, and where its rows go."""
