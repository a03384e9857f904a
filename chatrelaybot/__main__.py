"""`python -m chatrelaybot` is the command `chatrelaybot`."""

from __future__ import annotations

import sys

from chatrelaybot.cli import main

if __name__ == "__main__":
    sys.exit(main())
