"""One connection of Socket Mode, from its ticket to its end.

https://docs.slack.dev/apis/events-api/using-socket-mode/
"""

from __future__ import annotations

import json
import logging
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from slack_sdk.socket_mode.interval_runner import IntervalRunner
from slack_sdk.socket_mode.websocket_client import SocketModeClient
from websocket import WebSocketApp, WebSocketConnectionClosedException, WebSocketException

_log = logging.getLogger(__name__)

#: Errors of a link that have a plainer name than their own.
_REASONS = {
    "ConnectionResetError": "reset",
    "WebSocketBadStatusException": "handshake refused",
    "WebSocketConnectionClosedException": "hung up",
}
#: Only envelopes hold this. In a text it cannot stand like so: its quotes would be escaped.
_ENVELOPE = b'"envelope_id"'
#: How long Slack gets to answer our close frame, and then our reader to end; seconds.
_GOODBYE_SECONDS = 1.0
_END_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Received:
    """A message as it came, and the link it came over: acks go back over the same one."""

    link: Link
    text: bytes
    arrived_at: float | None = None  #: seconds since 1970


@dataclass(frozen=True, slots=True)
class Hello:
    """The link is up. `connection_count` is how many links Slack sees of this app."""

    link: Link
    connection_count: int | None


@dataclass(frozen=True, slots=True)
class Leaving:
    """Slack will close the link soon."""

    link: Link
    reason: str


@dataclass(frozen=True, slots=True)
class Ended:
    """The link is closed."""

    link: Link
    reason: str


Notice = Hello | Leaving | Ended


class Link(SocketModeClient):
    """slack_sdk's client for websocket-client, cut down to one connection.

    It never connects again: a ticket is good for one connection, and the SDK's own ways of
    reconnecting block its dispatcher, know no back-off, and trust `is_connected`. What arrives
    goes straight from the reading thread to `deliver` (envelopes) and `notify` (all else), so
    that neither the SDK's dispatcher nor its pool of threads stand between Slack and our ack.
    """

    def __init__(
        self,
        *,
        url: str,
        connection: socket.socket,
        deliver: Callable[[Received], None],
        notify: Callable[[Notice], None],
        clock: Callable[[], float],
        ping_seconds: float,
    ) -> None:
        """Take over a connection to where `url` points, which holds a ticket.

        Args:
            deliver: is called with each envelope, on the reading thread.
            notify: is called with what becomes of the link, on the reading thread.
            clock: for `last_life`.
            ping_seconds: between two pings of ours.
        """
        # Both libraries log errors in their own words, which may quote anything, such as what
        # came in the place of a handshake. We have `Ended`. (A level would not do for the latter:
        # the constructor below sets it.)
        silence = logging.Logger("slack_sdk", logging.CRITICAL + 1)  # noqa: LOG001 - see above
        logging.getLogger("websocket").disabled = True
        super().__init__(
            app_token="",
            logger=silence,
            auto_reconnect_enabled=False,
            ping_interval=ping_seconds,
            concurrency=1,
        )
        # The SDK's constructor starts two threads: one that would try a used ticket again every
        # half second, and the dispatcher. They end before anything can come.
        for runner in (self.current_session_runner, self.message_processor):
            runner.shutdown()  # type: ignore[no-untyped-call]
        self.wss_uri = url
        self.opened_at = self.last_life = clock()
        self._connection = connection
        # No time limit: it would let reads and writes return in their middle, and OpenSSL notes
        # the reason in one place for both. Then one thread may take the other's for an end.
        self._connection.settimeout(None)
        self._deliver = deliver
        self._notify = notify
        self._clock = clock
        self._reason = "closed"

    def connect(self) -> None:
        """Shake hands and read, on a thread of its own; `notify` tells what comes of it."""
        session = WebSocketApp(
            self.wss_uri or "",
            socket=self._connection,
            on_open=self._on_open,
            on_message=self._on_message,
            on_ping=self._on_life,
            on_pong=self._on_life,
            on_error=self._on_error,
        )
        runner = IntervalRunner(lambda: self._run(session, runner))
        runner.thread.name = "chatrelaybot-link-reader"
        with self.connect_operation_lock:
            if self.closed:
                return
            self.current_session = session
            self.current_session_runner = runner
            runner.start()

    def process_messages(self) -> None:
        """Do nothing, where the SDK would take messages from its queue."""

    def connect_to_new_endpoint(self, force: bool = False) -> None:  # noqa: ARG002 - the SDK's
        """Ask for another link in the place of this one, which stays as it is."""
        self._notify(Leaving(self, self._reason))

    def enqueue_message(self, message: str | bytes) -> None:
        """Hand a message over, on the reading thread."""
        text = message.encode() if isinstance(message, str) else message
        if _ENVELOPE in text:
            self._deliver(Received(self, text, time.time()))
        else:
            self._take_control(text)

    def ack(self, envelope_id: str) -> None:
        """Tell Slack that we have an envelope; where that fails Slack sends it again."""
        try:
            self.send_socket_mode_response({"envelope_id": envelope_id})
        except (WebSocketException, OSError) as error:
            # Part of the frame may be on its way, and then nothing can follow it.
            self.abort()
            _log.debug("ack not sent", extra={"error": type(error).__name__})

    def send_message(self, message: str) -> None:
        """Send a text; the SDK would try again on another session, of which there is none."""
        web_socket = self.current_session.sock if self.current_session else None
        if web_socket is None:
            raise WebSocketConnectionClosedException("the link is closed")
        web_socket.send(message)

    def abort(self) -> None:
        """Break the connection off, and with it whatever reads or sends. From any thread."""
        # Not the method of an SSLSocket: it would let a frame that is being sent out in clear.
        with suppress(OSError):
            socket.socket.shutdown(self._connection, socket.SHUT_RDWR)

    def close(self) -> None:
        """Say good-bye, so that Slack sends nothing more, and end all threads of the link."""
        with self.connect_operation_lock:
            if self.closed:
                return
            self.closed = True
        if self._say_goodbye():
            self._wait_for_end(_GOODBYE_SECONDS)
        self.abort()
        # The SDK closes the socket, and a thread that waits for a closed one may never wake.
        self._wait_for_end(_END_SECONDS)
        super().close()
        self._connection.close()

    def _run(self, session: WebSocketApp, runner: IntervalRunner) -> None:
        try:
            # JSON is checked to be UTF-8 when it is parsed, a hundred times faster.
            session.run_forever(ping_interval=self.ping_interval, skip_utf8_validation=True)
        except Exception as error:  # noqa: BLE001 - the top of a thread
            self._reason = type(error).__name__
        finally:
            runner.event.set()  # Else it would run again.
            self._connection.close()
            self._notify(Ended(self, self._reason))

    def _on_open(self, session: WebSocketApp) -> None:
        if session.ping_thread is not None:
            session.ping_thread.name = "chatrelaybot-link-ping"

    def _on_message(self, _session: WebSocketApp, message: str | bytes) -> None:
        self.last_life = self._clock()
        self.enqueue_message(message)

    def _on_life(self, _session: WebSocketApp, _payload: bytes) -> None:
        self.last_life = self._clock()

    def _on_error(self, _session: WebSocketApp, error: Exception) -> None:
        # 409 and the like for a handshake, 1000 and the like for a close frame.
        status = getattr(error, "status_code", None)
        name = type(error).__name__
        self._reason = f"{_REASONS.get(name, name)} {status or ''}".strip()
        # Else websocket-client would wait three seconds for the answer to a close frame.
        self.abort()

    def _take_control(self, text: bytes) -> None:
        try:
            control = json.loads(text)
        except ValueError:
            control = None
        kind = control.get("type") if isinstance(control, dict) else None
        if kind == "hello":
            count = control.get("num_connections")
            self._notify(Hello(self, count if isinstance(count, int) else None))
        elif kind == "disconnect":
            self._reason = str(control.get("reason"))
            self.connect_to_new_endpoint()
        else:
            _log.warning("message not understood", extra={"length": len(text)})

    def _say_goodbye(self) -> bool:
        web_socket = self.current_session.sock if self.current_session else None
        if web_socket is None or not web_socket.connected:
            return False
        # Where a sender is stuck we would be stuck behind it.
        if not web_socket.lock.acquire(timeout=_GOODBYE_SECONDS):
            return False
        web_socket.lock.release()
        with suppress(WebSocketException, OSError):
            web_socket.send_close()
            return True
        return False

    def _wait_for_end(self, seconds: float) -> None:
        thread = self.current_session_runner.thread
        if thread is not None:
            thread.join(seconds)
