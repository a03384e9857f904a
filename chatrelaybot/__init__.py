"""A Slack bot daemon that relays questions to an HTTP backend and streams the answers back."""

from __future__ import annotations

__version__ = "0.1.0"
__all__ = ["__version__"]
