"""The ledger in Redis, the producer's side: jobs and migrations are written and read here."""
