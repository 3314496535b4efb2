"""The asynchronous registry client (OCI distribution-spec 1.1) of all jobs of a worker.

``ClientPool`` (in ``pool``) is made once in the background loop and gives a ``RegistryClient``
for each registry and login; the modules ``manifests``, ``blobs``, ``tags`` and ``referrers``
ask it. Only what copies images imports this package: a push does without.
"""
