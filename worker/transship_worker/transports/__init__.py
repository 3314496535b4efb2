"""Transports of an image: Docker Engine push, streamed push, registry-to-registry copy.

A transport knows no cloud: what a vendor needs is in ``transship_worker.flavors``.
"""
