"""The copy of one image, registry to registry, without a daemon and without a disk."""
