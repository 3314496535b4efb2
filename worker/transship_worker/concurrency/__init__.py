"""Threads and the event loop: helpers that know nothing of images or jobs."""
