from __future__ import annotations

import sys

from tests.bench.streaming import main

sys.exit(main())
