"""Faults of the Web API, ordered beforehand by whoever tests against the workspace."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from chatrelaybot.playground.board import Board

_ERROR_PAGE = "<html><head><title>{status}</title></head><body>Server Error</body></html>"


@dataclass(eq=False, slots=True)
class Fault:
    """One thing that goes wrong, `times` times. Made by `Faults.add`."""

    method: str | None  #: None: any method
    when: Callable[[Mapping[str, Any]], bool] | None  #: looks at the arguments; None: always
    times: int | None  #: how often it may still happen; None: without end
    delay: float  #: seconds before the effect
    answer_delay: float  #: seconds between the effect and the answer
    hold: Literal["before", "after"] | None  #: wait for `release()` before or after the effect
    status: int | None  #: HTTP status; the body is a page of HTML
    error: str | None  #: `{"ok": false, "error": …}`; with `retry_after`, that of the 429
    cut: Literal["before", "after"] | None  #: cut the connection before or after the effect
    retry_after: int | None  #: HTTP 429 with this Retry-After in seconds
    _call_soon: Callable[..., object]
    has_effect: bool  #: `status` and `error` come after the call took effect all the same
    count: int = 0  #: how often it has happened
    _released: asyncio.Event = field(default_factory=asyncio.Event)

    def release(self) -> None:
        """Let go on what is held, and hold nothing any more."""
        if self.hold is not None:
            self._call_soon(self._released.set)

    @property
    def is_before_effect(self) -> bool:
        """Whether the call has no effect."""
        return self.cut == "before" or (
            not self.has_effect and (self.status is not None or self.error is not None)
        )

    @property
    def page(self) -> str:
        """Return the body that goes with `status`."""
        return _ERROR_PAGE.format(status=self.status)

    async def pause(self, moment: Literal["before", "after"]) -> None:
        """Wait as ordered for this moment."""
        seconds = self.delay if moment == "before" else self.answer_delay
        if seconds:
            await asyncio.sleep(seconds)
        if self.hold == moment:
            await self._released.wait()


class Faults:
    """The faults that are in force, in the order in which they were added."""

    def __init__(self, *, board: Board, call_soon: Callable[..., object]) -> None:
        self._board = board
        self._call_soon = call_soon
        self._faults: list[Fault] = []

    def add(
        self,
        method: str | None = None,
        *,
        when: Callable[[Mapping[str, Any]], bool] | None = None,
        times: int | None = 1,
        delay: float = 0.0,
        answer_delay: float = 0.0,
        hold: Literal["before", "after"] | None = None,
        status: int | None = None,
        error: str | None = None,
        cut: Literal["before", "after"] | None = None,
        retry_after: int | None = None,
        has_effect: bool = False,
    ) -> Fault:
        """Order a fault; `Fault` explains the arguments."""
        fault = Fault(
            method=method,
            when=when,
            times=times,
            delay=delay,
            answer_delay=answer_delay,
            hold=hold,
            status=status,
            error=error,
            cut=cut,
            retry_after=retry_after,
            has_effect=has_effect,
            _call_soon=self._call_soon,
        )
        with self._board:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take one fault back, and release what it holds."""
        with self._board:
            if fault in self._faults:
                self._faults.remove(fault)
        fault.release()

    def clear(self) -> None:
        """Take all faults back, and release what they hold."""
        with self._board:
            faults, self._faults = self._faults, []
        for fault in faults:
            fault.release()

    def take(self, method: str, args: Mapping[str, Any]) -> Fault | None:
        """Return the fault that this call meets. Only the loop's thread takes faults."""
        with self._board:
            faults = list(self._faults)
        for fault in faults:
            if fault.method not in (None, method) or fault.times == fault.count:
                continue
            if fault.when is None or fault.when(args):
                with self._board:
                    fault.count += 1
                    self._board.touch()
                return fault
        return None
