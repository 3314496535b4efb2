"""The Docker Engine: its connections, its answers and its errors."""
