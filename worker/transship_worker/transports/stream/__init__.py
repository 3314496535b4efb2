"""The streamed push: the engine's export, compressed on all cores and sent to the registry."""
