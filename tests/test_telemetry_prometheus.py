"""What Prometheus is shown beside the instruments."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from chatrelaybot.telemetry_prometheus import Prometheus


@pytest.mark.skipif(sys.platform != "linux", reason="the process is looked at in /proc")
def test_the_start_of_the_process_needs_no_look_at_the_machine() -> None:
    """A sandbox hides /proc/stat, where the library looks for the machine's start."""
    text = Prometheus(resource={}).scrape()[0].decode()
    shown = {
        sample.name: sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    stat = Path("/proc/stat").read_text(encoding="ascii")
    booted = next(int(line.split()[1]) for line in stat.splitlines() if line.startswith("btime"))
    ticks = int(Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19])

    assert shown["process_start_time_seconds"] == pytest.approx(booted + ticks / 100.0, abs=2.0)
    assert shown["process_resident_memory_bytes"] > 1e6
