"""The doctor's two trials: a question to the backend, and a message in a channel."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chatrelaybot.doctor import Order
from chatrelaybot.doctor_backend import PING
from chatrelaybot.doctor_findings import Finding
from chatrelaybot.playground.access import BOT_SCOPES
from chatrelaybot.playground.workspace import Workspace
from tests.answering import AnsweringBackend, query, streaming
from tests.clinic import FAILED, OK, SKIPPED, WARNING, SeeDoctor, free_port, saying
from tests.scripted_backend import END, Exchange, Script, ScriptedBackend, event, head, part

SECRET = "the words of the answer"
OPENAI = {"BACKEND_DIALECT": "openai", "BACKEND_MODEL": "any"}


def chat(text: str) -> bytes:
    chunk = (
        f'{{"object": "chat.completion.chunk", "choices": [{{"delta": {{"content": "{text}"}}}}]}}'
    )
    return event("message", chunk).removeprefix(b"event: message\n")


class TestAQuestion:
    @pytest.fixture(name="ask")
    def _ask(self, see_doctor: SeeDoctor) -> Callable[..., Finding]:
        """Return a function that lets the doctor ask a backend that answers by a script."""

        def ask(script: Script, **settings: str) -> Finding:
            with ScriptedBackend(script) as backend:
                visit = see_doctor(
                    Order(question="what now?"), **{"BACKEND_URL": backend.url, **settings}
                )
            assert visit.of("backend").verdict is OK
            assert SECRET not in visit.table
            assert "what now?" not in visit.table
            return visit.of("answer")

        return ask

    def test_is_asked_as_the_bot_would_ask(
        self, see_doctor: SeeDoctor, backend: AnsweringBackend, workspace: Workspace
    ) -> None:
        backend.answer(PING, streaming("a", "b", "c"))

        visit = see_doctor(Order(question=PING))

        (request,) = backend.requests
        assert query(request) == PING
        assert workspace.bot_user_id.encode() in request.body
        assert visit.of("answer").verdict is OK
        assert visit.of("answer").fact.startswith("3 parts of text, the first text after 0.")
        assert visit.code == 0

    def test_may_be_answered_in_json(self, ask: Callable[..., Finding]) -> None:
        body = f'{{"full_response": "{SECRET}"}}'.encode()

        finding = ask(saying(body, content_type="application/json"))

        assert finding.verdict is OK
        assert finding.fact.startswith("one JSON object, ")

    @pytest.mark.parametrize(
        ("script", "settings", "dialect"),
        [
            (saying(chat(SECRET), b"data: [DONE]\n\n"), {}, "openai"),
            (
                saying(b'{"choices": [{"message": {}}]}', content_type="application/json"),
                {},
                "openai",
            ),
            (saying(part(SECRET), END), OPENAI, "relay"),
            (
                saying(b'{"full_response": "x"}', content_type="application/json"),
                OPENAI,
                "relay",
            ),
        ],
    )
    def test_is_answered_in_another_dialect(
        self,
        ask: Callable[..., Finding],
        script: Script,
        settings: dict[str, str],
        dialect: str,
    ) -> None:
        finding = ask(script, **settings)

        assert (finding.verdict, finding.fact) == (
            FAILED,
            f"this looks like the {dialect} dialect",
        )
        assert finding.mend.startswith(f"set BACKEND_DIALECT={dialect}")

    @pytest.mark.parametrize(
        ("script", "words"),
        [
            (saying(b"<html>Sign in</html>", content_type="text/html"), "a login page"),
            (saying(part(SECRET)), "must end its answer with a stream_end event"),
            (saying(event("error", f'{{"error": "{SECRET}"}}')), "the backend's log"),
            (saying(status="401 Unauthorized"), "BACKEND_TOKEN"),
            (saying(status="404 Not Found"), "the path of BACKEND_URL"),
            (saying(status="422 Unprocessable"), "BACKEND_DIALECT"),
            (saying(status="302 Found"), "redirects are not followed"),
            (saying(status="500 Oops"), "the backend's log"),
            (saying(status="503 Full"), "try again later"),
            (saying(status="600 Beyond"), "the address that takes questions"),
            (saying(status="101 Switching"), "the address that takes questions"),
        ],
    )
    def test_goes_wrong_in_a_way_that_has_a_mend(
        self, ask: Callable[..., Finding], script: Script, words: str
    ) -> None:
        finding = ask(script)

        assert finding.verdict is FAILED
        assert words in finding.mend

    def test_in_openai_needs_its_own_end(self, ask: Callable[..., Finding]) -> None:
        assert ask(saying(chat("x")), **OPENAI).mend.endswith("data: [DONE]")

    def test_is_answered_without_a_text(self, ask: Callable[..., Finding]) -> None:
        assert ask(saying(END)).verdict is WARNING

    def test_is_answered_too_slowly(self, ask: Callable[..., Finding]) -> None:
        def script(exchange: Exchange) -> None:
            exchange.send(head())
            exchange.wait_until_client_hangs_up()

        assert "BACKEND_IDLE_SECONDS" in ask(script, BACKEND_IDLE_SECONDS="0.2").mend

    def test_is_not_asked_with_settings_that_are_wrong(
        self, see_doctor: SeeDoctor, backend: AnsweringBackend
    ) -> None:
        visit = see_doctor(Order(question="what now?"), BACKEND_DIALECT="morse")

        assert visit.of("answer").fact == "needs BACKEND_DIALECT"
        assert visit.of("backend").verdict is OK
        assert backend.requests == []

    def test_is_not_asked_of_a_backend_that_is_away(self, see_doctor: SeeDoctor) -> None:
        visit = see_doctor(Order(question="?"), BACKEND_URL=f"http://127.0.0.1:{free_port()}/")

        assert visit.of("answer").verdict is SKIPPED
        assert visit.of("answer").fact == "needs a backend that is there"


class TestAMessage:
    @pytest.fixture(name="channel")
    def _channel(self, workspace: Workspace) -> str:
        return workspace.add_channel()

    def test_is_posted_edited_found_and_deleted(
        self, see_doctor: SeeDoctor, workspace: Workspace, channel: str
    ) -> None:
        visit = see_doctor(Order(is_sending=True), SLACK_TEST_CHANNEL=channel)

        finding = visit.of("sending")
        assert finding.verdict is OK
        assert [word.split()[0] for word in finding.fact.split(", ")] == [
            "post",
            "edit",
            "find",
            "delete",
        ]
        methods = [call.method for call in workspace.calls]
        assert methods[-4:] == [
            "chat.postMessage",
            "chat.update",
            "conversations.history",
            "chat.delete",
        ]
        assert workspace.history(channel) == []

    def test_needs_a_channel(self, see_doctor: SeeDoctor) -> None:
        finding = see_doctor(Order(is_sending=True)).of("sending")

        assert finding.verdict is FAILED
        assert finding.fact == "SLACK_TEST_CHANNEL is not set"

    def test_needs_the_bot_in_the_channel(
        self, see_doctor: SeeDoctor, workspace: Workspace, channel: str
    ) -> None:
        workspace.kick_bot(channel)

        visit = see_doctor(Order(is_sending=True), SLACK_TEST_CHANNEL=channel)

        assert visit.of("sending").fact == "chat.postMessage: not_in_channel"
        assert "/invite" in visit.of("sending").mend
        assert visit.code == 1

    def test_is_deleted_where_it_cannot_be_looked_up(
        self, see_doctor: SeeDoctor, workspace: Workspace, channel: str
    ) -> None:
        workspace.set_scopes(BOT_SCOPES - {"channels:history"})

        finding = see_doctor(Order(is_sending=True), SLACK_TEST_CHANNEL=channel).of("sending")

        assert "missing_scope" in finding.fact
        assert "add the scope" in finding.mend
        assert workspace.calls[-1].method == "chat.delete"

    def test_is_not_tried_with_a_token_that_slack_refuses(
        self, see_doctor: SeeDoctor, workspace: Workspace, channel: str
    ) -> None:
        workspace.revoke_token()

        visit = see_doctor(Order(is_sending=True), SLACK_TEST_CHANNEL=channel)

        assert visit.of("sending").verdict is SKIPPED

    def test_is_not_tried_while_slack_is_away(self, see_doctor: SeeDoctor, channel: str) -> None:
        url = f"http://127.0.0.1:{free_port()}/api/"

        visit = see_doctor(Order(is_sending=True), SLACK_TEST_CHANNEL=channel, SLACK_API_URL=url)

        assert visit.of("sending").verdict is SKIPPED
