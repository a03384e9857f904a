"""The backend: a question goes out by POST, its answer comes back as events or as JSON."""

from __future__ import annotations

import datetime
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Self

import requests
import urllib3.exceptions
from requests.adapters import HTTPAdapter

from chatrelaybot import __version__, refusal, sse, trust
from chatrelaybot.backend_call import BackendCall, BackendCalls
from chatrelaybot.dialects import Decoder, Delta, Dialect, Failure, Finish, Outcome
from chatrelaybot.errors import FailureKind, PermanentError, TransientError
from chatrelaybot.events import Question
from chatrelaybot.telemetry_metrics import SILENT, Metrics
from chatrelaybot.telemetry_spans import Span

# A part of this module's interface, though it is the wire that raises it.
from chatrelaybot.wire import AnswerCancelled as AnswerCancelled
from chatrelaybot.wire import Pace, Wire
from chatrelaybot.wire_pool import Pool, SecurePool

#: How often all answers together are read.
_READS_PER_SECOND = 5_000.0
#: Bytes of an answer in one piece.
_JSON_LIMIT = 4 << 20
#: How long the end of a body may take that says nothing any more, for the sake of keeping the
#: connection; seconds, and reads.
_DRAIN_SECONDS = 0.02
_DRAIN_READS = 8


class Backend:
    """Where questions are asked. Safe for any number of threads."""

    def __init__(
        self,
        *,
        url: str,
        dialect: Dialect,
        token: str | None,
        headers: Mapping[str, str],
        connect_seconds: float,
        idle_seconds: float,
        silence_seconds: float,
        pool_size: int,
        ca_bundle: str | None = None,
        reads_per_second: float = _READS_PER_SECOND,
        metrics: Metrics = SILENT,
    ) -> None:
        """Seconds: to connect; to the headers and between two bytes; between two texts.

        `pool_size` is the number of idle connections that are kept. `ca_bundle` is a file of
        certificates to trust in place of those that the environment names. `reads_per_second` is
        for all answers together: each of many is read less often.

        Raises:
            ConfigurationError: The environment's CA bundle is none.
        """
        self._url = url
        self._dialect = dialect
        self._headers = {"User-Agent": f"chatrelaybot/{__version__}", **headers}
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        self._connect_seconds = connect_seconds
        self._idle_seconds = idle_seconds
        self._silence_seconds = silence_seconds
        self._pace = Pace(reads_per_second=reads_per_second)
        self._calls = BackendCalls(url=url, chat_model=dialect.chat_model, metrics=metrics)
        self._session = _Session()
        context = trust.context(ca_bundle) if url.lower().startswith("https:") else None
        self._session.mount("http://", _Adapter(pool_size=pool_size, trusted=context))
        self._session.mount("https://", _Adapter(pool_size=pool_size, trusted=context))

    def ask(self, question: Question, *, span: Span) -> Answer:
        """Return the answer to be; it connects when it is first read.

        It is told of below the `span`, whose trace the backend may go on with.
        """
        call = self._calls.begin(span)
        wire = Wire(
            pace=self._pace,
            connect_seconds=self._connect_seconds,
            idle_seconds=self._idle_seconds,
            silence_seconds=self._silence_seconds,
        )
        return Answer(
            send=lambda: self._send(wire, question, call.headers()),
            wire=wire,
            call=call,
            decoder=self._dialect.decoder(),
        )

    def close(self) -> None:
        """Close the connections that no answer uses."""
        self._session.close()

    def _send(self, wire: Wire, question: Question, trace: Mapping[str, str]) -> requests.Response:
        body = json.dumps(self._dialect.body(question)).encode()
        headers = {
            **trace,
            "Accept": "text/event-stream",
            # A compressed answer could be a thousand times as large as it looks.
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
            "Idempotency-Key": question.id,
        }
        try:
            return self._post(wire, body, headers, must_dial=False)
        except TransientError:
            if not wire.is_stale:
                raise
        # The backend had closed a kept connection, and we did not know it yet. It has the same
        # Idempotency-Key, should the question have reached it after all.
        return self._post(wire, body, headers, must_dial=True)

    def _post(
        self, wire: Wire, body: bytes, headers: Mapping[str, str], *, must_dial: bool
    ) -> requests.Response:
        try:
            with wire.sending(must_dial=must_dial):
                return self._session.post(
                    self._url,
                    data=body,
                    headers=_merged(self._headers, headers),
                    stream=True,
                    allow_redirects=False,
                    # The wire keeps the time; this is for the TLS handshake, and for sending.
                    timeout=self._connect_seconds,
                )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            wire.check()
            raise _unanswered(error) from _system_error(error)


class Answer:
    """One answer, as it comes. One thread reads it; any thread may cancel it."""

    def __init__(
        self,
        *,
        send: Callable[[], requests.Response],
        wire: Wire,
        call: BackendCall,
        decoder: Decoder,
    ) -> None:
        self._send = send
        self._call = call
        self._wire = wire
        self._decoder = decoder
        self._response: requests.Response | None = None
        self._is_whole = False
        #: Once the answer has ended: the backend stopped at a limit of its own on the length.
        self.is_truncated = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Delta]:
        """Ask, and yield the text as it comes, until the answer is whole.

        Raises:
            TransientError: Asking again may help, if nothing has been shown yet.
            PermanentError: Asking again will not help.
            AnswerCancelled: Somebody has called `cancel`.
        """
        wire = self._wire
        try:
            for outcome in self._outcomes():
                wire.check()
                if isinstance(outcome, Delta):
                    self._call.took_part()
                    yield outcome
                    wire.has_text = True
                elif isinstance(outcome, Finish):
                    self.is_truncated = outcome.is_truncated
                    self._is_whole = True
                    return
                else:
                    raise _failed(outcome)
            raise _cut()
        except (TransientError, PermanentError) as error:
            self._call.failed(error.kind.value)
            raise
        except AnswerCancelled:
            self._call.failed("cancelled")
            raise
        finally:
            self.close()

    def cancel(self) -> None:
        """End the answer at once; whoever reads it gets AnswerCancelled. From any thread."""
        self._wire.cancel()

    def close(self) -> None:
        """Give the connection back if the whole body has been read, else close it."""
        response, self._response = self._response, None
        if response is not None:
            if self._is_whole:
                self._drain(response.raw)
            if response.raw.closed:
                response.raw.release_conn()
            response.close()
        self._wire.let_go()
        self._call.end()

    def _outcomes(self) -> Iterator[Outcome]:
        self._response = response = self._send()
        self._call.answered(response.status_code)
        self._wire.enter_body()
        refused = refusal.of_status(
            response.status_code, response.headers, now=datetime.datetime.now(datetime.UTC)
        )
        if refused is not None:
            raise refused
        if refusal.is_encoded(response.headers):
            raise _garbled("The backend compresses its answer unasked")
        media_type = refusal.media_type(response.headers)
        if media_type == "text/event-stream":
            yield from self._events()
        elif media_type == "application/json":
            yield from self._decoder.decode_json(self._json())
        else:
            raise _garbled("The backend's answer is neither events nor JSON")

    def _events(self) -> Iterator[Outcome]:
        decode = self._decoder.decode_event
        try:
            for event in sse.events(iter(self._wire.read, b"")):
                outcome = decode(event)
                if outcome is not None:
                    yield outcome
        except (TransientError, PermanentError):
            # Nothing that comes after its last word makes a whole answer less whole.
            if self._decoder.end() is None:
                raise
        finish = self._decoder.end()
        if finish is not None:
            yield finish

    def _json(self) -> object:
        body = bytearray()
        while chunk := self._wire.read():
            body += chunk
            if len(body) > _JSON_LIMIT:
                raise PermanentError("The backend's JSON is too large", kind=FailureKind.TOO_LONG)
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            # The error itself holds the text.
            raise _garbled("The backend's JSON cannot be read") from None

    def _drain(self, raw: Any) -> None:
        """Read what is left of a body whose end is known, most often nothing but that end."""
        if not raw.chunked and raw.length_remaining is None:
            return
        self._wire.hurry(_DRAIN_SECONDS)
        try:
            for _ in range(_DRAIN_READS):
                if not self._wire.read():
                    return
        except (TransientError, PermanentError, AnswerCancelled):
            # Then it is not kept.
            return


class _Session(requests.Session):
    """A session that remembers nothing, and learns nothing from the environment."""

    def __init__(self) -> None:
        super().__init__()
        self.trust_env = False
        self.headers.clear()
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    def get_redirect_target(self, *_: Any) -> None:
        # requests looks even where it shall not follow, and reads the whole body first.
        return None


class _Adapter(HTTPAdapter):
    """Opens connections that the wire governs."""

    def __init__(self, *, pool_size: int, trusted: ssl.SSLContext | None) -> None:
        self._trusted = trusted
        super().__init__(pool_connections=1, pool_maxsize=pool_size, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, ssl_context=self._trusted, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": Pool, "https": SecurePool}

    def cert_verify(self, conn: Any, *_: Any) -> None:
        # The context has the certificates. requests would load its own ones, and for each
        # connection again.
        conn.cert_reqs = "CERT_REQUIRED"


def _merged(given: Mapping[str, str], ours: Mapping[str, str]) -> dict[str, str]:
    """Add our headers; they win, in whatever case the given ones are written."""
    own = {name.lower() for name in ours}
    return {
        **{name: value for name, value in given.items() if name.lower() not in own},
        **ours,
    }


def _unanswered(error: Exception) -> TransientError | PermanentError:
    """Return what it means that requests has no response for us."""
    if _system_error(error) is not None:
        return TransientError("The backend cannot be reached", kind=FailureKind.UNREACHABLE)
    return _garbled("The backend does not speak HTTP")


def _system_error(error: BaseException) -> OSError | None:
    """Return what is at the bottom of an error of requests or urllib3, if it is a system's error.

    The errors above it are not for chaining: they show the URL, and bytes of the response.
    """
    while below := error.__cause__ or error.__context__:
        error = below
    if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
        return error
    return None


def _failed(failure: Failure) -> PermanentError:
    # Its words stay here: they may repeat the question.
    return PermanentError(
        f"The backend reports an error, in {len(failure.words)} characters",
        kind=FailureKind.FAILED,
    )


def _cut() -> TransientError:
    return TransientError("The answer broke off midway", kind=FailureKind.CUT)


def _garbled(message: str) -> PermanentError:
    return PermanentError(message, kind=FailureKind.GARBLED)
