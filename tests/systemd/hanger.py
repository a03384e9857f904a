"""Hangs one thread of the program for good, once the file `hang` in its state directory names it.

Python imports a `sitecustomize` by itself: https://docs.python.org/3/library/site.html. Nothing of
the program is changed: a thread hangs where it makes its next step, as it does in a call that never
returns.
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path
from types import FrameType

_order = Path(os.environ["STATE_DIRECTORY"]) / "hang"
_never = threading.Event()
_hung = ""


def _profile(_frame: FrameType, _event: str, _argument: object) -> None:
    if _hung and threading.current_thread().name == _hung:
        sys.stderr.write(f"hanging {_hung}\n")
        _never.wait()


def _watch() -> None:
    global _hung
    _order.unlink(missing_ok=True)  # Of an earlier start.
    while not _hung:
        _never.wait(0.05)
        _hung = _order.read_text() if _order.exists() else ""


threading.Thread(target=_watch, name="hanger", daemon=True).start()
threading.setprofile(_profile)
