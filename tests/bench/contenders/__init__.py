"""Who is measured: the bot, and what people use today."""

from __future__ import annotations

from tests.bench.contenders.process import Contender, ProcessUsage, start, usage_of

__all__ = ["Contender", "ProcessUsage", "start", "usage_of"]
