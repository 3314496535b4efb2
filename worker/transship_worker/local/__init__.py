"""Everything on one machine, as ``transship up`` runs it: Redis, a worker and Flower."""
