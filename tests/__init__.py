"""Tests: unit (no process), integration (real parts), acceptance (the commands)."""
