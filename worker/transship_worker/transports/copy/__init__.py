"""The copy of one image from registry to registry, without a Docker Engine or a disk."""
