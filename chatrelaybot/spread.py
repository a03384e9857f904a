"""Spending saved-up edits evenly over the life of the answers that run. Pure: `now` is an argument.

After a rest a bucket holds many edits. Five answers that may each be edited every second would
spend them within the first seconds, and then show ever older text until they end. The mean age of
the text shown is least where the edits of each answer lie equally far apart. Nobody knows how
long an answer will stream, but the last ones are a good guess.
"""

from __future__ import annotations

import math

#: Seconds that an answer is thought to stream for while none has ended yet.
_FIRST_GUESS_SECONDS = 10.0
#: Least seconds of a guess, so that answers in one piece do not stop the arithmetic.
_LEAST_SECONDS = 1.0
#: Weight of the latest answer in the guess.
_LEARNING = 0.2
#: Somewhere within its life an answer has, on average, half of it still before it.
_SHARE_TO_COME = 0.5


class Spread:
    """Paces intermediate edits. Not thread-safe: it has one owner."""

    def __init__(self) -> None:
        self._usual_seconds = _FIRST_GUESS_SECONDS
        self._last_at = -math.inf

    def __repr__(self) -> str:
        return f"Spread({self._usual_seconds:.1f} s)"

    @property
    def seconds_to_come(self) -> float:
        """How long an answer that runs will probably go on, at the least."""
        return max(_LEAST_SECONDS, self._usual_seconds * _SHARE_TO_COME)

    def ended(self, seconds: float) -> None:
        """Learn from an answer that has streamed for so long."""
        self._usual_seconds += _LEARNING * (seconds - self._usual_seconds)

    def took(self, now: float) -> None:
        """Note an intermediate edit."""
        self._last_at = now

    def wait(self, now: float, *, rate: float, saved: float, wanted: float) -> float:
        """Return the seconds until the next intermediate edit; 0.0 is now.

        `rate` edits a second come in, `saved` are there beside those held back, and `wanted` a
        second would be made if nothing limited them.
        """
        allowed = rate + max(0.0, saved) / self.seconds_to_come
        if wanted <= allowed:
            return 0.0
        return max(0.0, self._last_at + 1.0 / allowed - now)
