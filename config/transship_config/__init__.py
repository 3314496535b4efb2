"""Values that every part of Transship shares.

Settings, Celery's settings, queue names, the URL of Redis and its TLS, valid names, and the errors
that settings can raise. Nothing here opens a connection; the environment and the TLS files that
the URL names are all that is read.
"""

__version__ = "0.1.0"
