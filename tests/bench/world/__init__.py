"""The load server of the bench: Slack and a backend, in a process of their own."""

from __future__ import annotations

from tests.bench.world.records import Asked, Call, Record, Reply, Version
from tests.bench.world.remote import World
from tests.bench.world.script import Script
from tests.bench.world.server import Usage

__all__ = ["Asked", "Call", "Record", "Reply", "Script", "Usage", "Version", "World"]
