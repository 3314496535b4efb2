"""Logins and secrets of registries: where they come from and where they must not go."""
