"""Helpers for threads and the event loop; they know nothing of images or jobs."""
