"""``python -m transship`` is ``transship``."""

from transship.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
