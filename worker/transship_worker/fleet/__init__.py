"""What workers agree on in Redis: who uploads a blob, and how fast anybody may go."""
