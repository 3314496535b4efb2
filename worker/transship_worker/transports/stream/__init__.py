"""The fast push: the engine's export, compressed on all cores and streamed to the registry."""
