"""``transship migrate``: commands, text and displays of migrations."""
