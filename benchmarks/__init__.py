"""Transship and its peers on the same work, measured side by side: ``./dev bench``."""
