"""Values that every part of Transship shares.

Settings, image references, job models, public views of components and workers, the error
tree, the Redis key names and Celery's settings. Nothing here opens a connection or a file;
the environment is the only thing that is read.
"""

__version__ = "0.1.0"
