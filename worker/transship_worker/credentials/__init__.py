"""Logins and secrets of registries: where they come from, and how text is redacted."""
