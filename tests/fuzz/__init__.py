"""Coverage-guided fuzzing of all that reads what a stranger wrote; ``./dev fuzz`` runs it."""
