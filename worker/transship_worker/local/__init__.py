"""``transship up``: Redis, a worker and Flower on one machine."""
