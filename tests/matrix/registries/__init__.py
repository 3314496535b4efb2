"""``python -m tests.matrix registries``: what real registries take, give and refuse.

Each case is done by a real worker and checked at the registry by plain HTTP requests of its own.
"""
