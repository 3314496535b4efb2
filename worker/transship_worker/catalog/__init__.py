"""The worker's catalog of registry components: one YAML file, read again when it changes.

::

    registries:
      prod:
        flavor: default
        uri: registry.example.com/ml
        username: pusher
        password: {env: PROD_PASSWORD}
    flavors: [acme_flavors.scanned.ScannedRegistry]
    flavor_paths: [/opt/acme]
    anonymous_sources: [docker.io]
    accounts:
      team-a: {push: ["prod/**"], labels: {team: a}}
"""

from transship_worker.catalog.live import Catalog
from transship_worker.catalog.model import Components

__all__ = ["Catalog", "Components"]
