"""The values that producers, the ledger and workers exchange."""
