"""Everything on one machine, as ``longshore up`` runs it: Redis, a worker and Flower."""
