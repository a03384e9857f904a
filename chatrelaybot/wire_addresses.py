"""The addresses of a host, in the order in which to try them, within one time limit."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

#: Least seconds for a try to connect, where the time for all addresses is almost over.
_LEAST_CONNECT_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Candidate:
    """An address, and the time for it in seconds."""

    family: int
    kind: int
    protocol: int
    address: Any
    seconds: float

    def socket(self) -> socket.socket:
        """Make a socket that can be connected to it."""
        return socket.socket(self.family, self.kind, self.protocol)


def candidates(host: str, port: int, *, seconds: float) -> Iterator[Candidate]:
    """Yield each address, with a share of the time that is left: one may be dead.

    Raises:
        OSError: The host has none.
        UnicodeError: No host can have such a name.
    """
    deadline = monotonic() + seconds
    addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for index, (family, kind, protocol, _, address) in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - index)
        yield Candidate(family, kind, protocol, address, max(_LEAST_CONNECT_SECONDS, share))
