"""The producer's part of the ledger in Redis: submits and reads jobs and migrations."""
