"""The worker's commands; the table that names them is in ``transship.cli``."""
