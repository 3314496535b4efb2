"""Folders of OCI image layouts and ``docker save`` archives, used like registries."""
