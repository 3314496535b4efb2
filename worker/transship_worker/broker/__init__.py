"""Celery and kombu as this worker uses them."""
