"""Folders of the worker's host that images are read from and written to like registries."""
