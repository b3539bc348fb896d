"""``python -m unlearnable``: the command line."""

from .jobs.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
