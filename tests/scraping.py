"""Asking a running bot for its metrics, as Prometheus does."""

from __future__ import annotations

import threading
import time
import urllib.request
from collections.abc import Callable, Mapping

from prometheus_client.parser import text_string_to_metric_families

from chatrelaybot.daemon import Daemon

#: Longer than anything here should take; seconds.
DEADLINE = 20.0

Labels = frozenset[tuple[str, str]]


class Scrape:
    """What was seen at one moment."""

    def __init__(self, text: str) -> None:
        self.text = text
        #: By the name of a sample and its labels; one without a value is none.
        self.samples: Mapping[tuple[str, Labels], float] = {
            (sample.name, _labels(sample.labels)): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name: str, **labels: str) -> float:
        """Return the sum of the samples with these labels, whatever others they have."""
        wanted = _labels(labels)
        return sum(
            value
            for (each, found), value in self.samples.items()
            if each == name and wanted <= found
        )

    def by(self, label: str, name: str) -> dict[str, float]:
        """Return the samples of a name by a label of theirs, but for those that are 0."""
        return {
            dict(labels)[label]: value
            for (each, labels), value in self.samples.items()
            if each == name and value
        }


def scrape(bot: Daemon) -> Scrape:
    url = f"http://127.0.0.1:{bot.http_port}/metrics"
    with urllib.request.urlopen(url, timeout=DEADLINE) as answer:
        return Scrape(answer.read().decode())


def wait_for(bot: Daemon, predicate: Callable[[Scrape], object]) -> Scrape:
    """Ask until the predicate is true of what is seen."""
    deadline = time.monotonic() + DEADLINE
    while not predicate(seen := scrape(bot)):
        assert time.monotonic() < deadline, seen.text
        threading.Event().wait(0.02)
    return seen


def _labels(labels: Mapping[str, str]) -> Labels:
    return frozenset((name, value) for name, value in labels.items() if value)
