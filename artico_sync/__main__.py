"""The command line, as `python -m artico_sync`."""

from __future__ import annotations

import sys

from artico_sync.cli import main

if __name__ == "__main__":
    sys.exit(main())
