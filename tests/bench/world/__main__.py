from __future__ import annotations

from tests.bench.world.server import main

main()
