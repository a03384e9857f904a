"""The doctor's look at the backend: whether it is there, and, where it may ask, how it answers."""

from __future__ import annotations

import re
import time
from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from chatrelaybot import dialects
from chatrelaybot.backend import Backend
from chatrelaybot.backend_reach import NotTrusted, place, reach
from chatrelaybot.doctor_dialect import WatchedDialect
from chatrelaybot.doctor_findings import Finding, failed, ok, skipped, warning, wrong
from chatrelaybot.errors import ConfigurationError, FailureKind, PermanentError, TransientError
from chatrelaybot.events import Question
from chatrelaybot.settings import Settings
from chatrelaybot.telemetry_spans import NO_SPANS

BACKEND = "backend"
ANSWER = "answer"

#: What `--ask` asks where it is not told.
PING = "This is a test of the connection. Please answer with one word."

#: Longest waits, where the settings are more patient: to connect, for the next byte or text,
#: and for the whole answer; seconds.
_CONNECT_SECONDS = 5.0
_SILENCE_SECONDS = 60.0
_MOST_SECONDS = 120.0
#: The variable is read from the environment alone, and what it names stands for all certificates.
TRUST_MEND = (
    "if the certificate is from an authority of your own, name a PEM file with that authority's "
    "and the public ones in REQUESTS_CA_BUNDLE (in the environment, not in .env)"
)
_CHAT_COMPLETIONS = "/chat/completions"
_STATUS = re.compile(r"status (\d{3})")
#: What the first figures of a status say about how to mend it; longer ones are looked at first.
_STATUS_MENDS = {
    "401": "correct BACKEND_TOKEN, or BACKEND_HEADERS",
    "403": "correct BACKEND_TOKEN, or BACKEND_HEADERS",
    "404": "correct the path of BACKEND_URL",
    "405": "correct the path of BACKEND_URL",
    "3": "redirects are not followed: give BACKEND_URL the address that this one leads to",
    "4": "see whether BACKEND_DIALECT is the one that the backend speaks, and look at its log",
    "5": "look into the backend's log",
}
#: A status that no answer of HTTP has, or one that comes before an answer.
_NO_STATUS = "see whether BACKEND_URL is the address that takes questions"
_MENDS = {
    FailureKind.UNREACHABLE: "start the backend, or correct BACKEND_URL",
    FailureKind.OVERLOADED: "try again later, or give the backend more room",
    FailureKind.FAILED: "look into the backend's log",
    FailureKind.SLOW: "look into the backend's log; BACKEND_IDLE_SECONDS and "
    "BACKEND_SILENCE_SECONDS say how long the bot waits",
    FailureKind.TOO_LONG: "let the backend send less in one event",
}
_ENDINGS = {"relay": "a stream_end event", "openai": "data: [DONE]"}


@dataclass(slots=True)
class _Heard:
    """What came of a question, in figures."""

    part_count: int = 0
    first_seconds: float = 0.0
    seconds: float = 0.0
    is_over: bool = True


def reachable(settings: Settings) -> Finding:
    """Open a connection, and ask nothing."""
    url = settings.backend_url
    where = place(url)
    timeout = min(settings.backend_connect_seconds, _CONNECT_SECONDS)
    try:
        seconds = reach(url, timeout=timeout)
    except ConfigurationError as error:
        return wrong(BACKEND, error)
    except NotTrusted as error:
        return failed(BACKEND, f"{where}: {error}", TRUST_MEND)
    except TransientError as error:
        return failed(BACKEND, f"{where}: {error}", _MENDS[FailureKind.UNREACHABLE])
    is_openai = urlsplit(url).path.rstrip("/").endswith(_CHAT_COMPLETIONS)
    if is_openai and settings.backend_dialect != "openai":
        fact = f"{where} is there; the path of its URL looks like the openai dialect"
        return warning(BACKEND, fact, _other("openai"))
    return ok(BACKEND, f"{where} is there, in {seconds:.2f} s")


def answer(settings: Settings, text: str, *, team_id: str, user_id: str) -> Finding:
    """Ask a question as the bot would, and look at the answer, but not at its words."""
    watch = WatchedDialect(
        dialects.dialect(
            settings.backend_dialect,
            model=settings.backend_model,
            system_prompt=settings.backend_system_prompt,
            separator=settings.backend_part_separator,
        )
    )
    ts = f"{time.time():.6f}"
    question = Question(
        event_id=f"doctor:{ts}",
        team_id=team_id,
        channel=settings.slack_test_channel or "C0DOCTOR",
        user_id=user_id,
        text=text,
        ts=ts,
        thread_ts=None,
    )
    try:
        with closing(_backend(settings, watch)) as backend:
            heard = _listen(backend, question)
    except ConfigurationError as error:
        return wrong(ANSWER, error)
    except (TransientError, PermanentError) as error:
        return _failed(error, watch, settings.backend_dialect)
    return _answered(heard, watch)


def unasked() -> Finding:
    """Say that nobody wanted a question to be asked."""
    return skipped(ANSWER, "nothing was asked; doctor --ask asks a question")


def _backend(settings: Settings, watch: WatchedDialect) -> Backend:
    return Backend(
        url=settings.backend_url,
        dialect=watch,
        token=settings.backend_token.get_secret_value() or None,
        headers=settings.backend_headers,
        connect_seconds=min(settings.backend_connect_seconds, _CONNECT_SECONDS),
        idle_seconds=min(settings.backend_idle_seconds, _SILENCE_SECONDS),
        silence_seconds=min(settings.backend_silence_seconds, _SILENCE_SECONDS),
        pool_size=1,
    )


def _listen(backend: Backend, question: Question) -> _Heard:
    heard = _Heard()
    began = time.monotonic()
    with backend.ask(question, span=NO_SPANS.publish(question)) as parts:
        for _ in parts:
            heard.seconds = time.monotonic() - began
            heard.first_seconds = heard.first_seconds or heard.seconds
            heard.part_count += 1
            if heard.seconds > _MOST_SECONDS:
                heard.is_over = False
                break
    heard.seconds = time.monotonic() - began
    return heard


def _answered(heard: _Heard, watch: WatchedDialect) -> Finding:
    if not heard.part_count:
        mend = "the bot would say that there is no answer: look into the backend's log"
        return warning(ANSWER, f"whole after {heard.seconds:.2f} s, but without any text", mend)
    first = f"the first text after {heard.first_seconds:.2f} s"
    fact = f"{_form(heard, watch)}, {first}, "
    if not heard.is_over:
        mend = "the bot would go on reading, up to ANSWER_MAX_CHARS"
        return warning(ANSWER, f"{fact}not over after {heard.seconds:.0f} s", mend)
    return ok(ANSWER, f"{fact}whole after {heard.seconds:.2f} s")


def _form(heard: _Heard, watch: WatchedDialect) -> str:
    if not watch.event_count:
        return "one JSON object"
    return "1 part of text" if heard.part_count == 1 else f"{heard.part_count} parts of text"


def _failed(error: TransientError | PermanentError, watch: WatchedDialect, dialect: str) -> Finding:
    others = watch.signs - {dialect}
    if others and dialect not in watch.signs:
        (other, *_) = sorted(others)
        return failed(ANSWER, f"this looks like the {other} dialect", _other(other))
    return failed(ANSWER, str(error), _mend(error, dialect))


def _mend(error: TransientError | PermanentError, dialect: str) -> str:
    if found := _STATUS.search(str(error)):
        status = found[1]
        if error.kind is not FailureKind.OVERLOADED:
            return _STATUS_MENDS.get(status) or _STATUS_MENDS.get(status[0], _NO_STATUS)
    if error.kind is FailureKind.CUT:
        return f"the backend must end its answer with {_ENDINGS[dialect]}"
    if error.kind is FailureKind.GARBLED:
        return (
            "see whether BACKEND_URL is the address that takes questions (a login page of a proxy "
            "may stand there), and BACKEND_DIALECT the dialect that it speaks"
        )
    return _MENDS.get(error.kind, "look into the backend's log")


def _other(dialect: str) -> str:
    needs = ", and BACKEND_MODEL" if dialect == "openai" else ""
    return f"set BACKEND_DIALECT={dialect}{needs}"
