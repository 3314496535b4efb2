"""The values that travel between producers, the ledger and workers."""
