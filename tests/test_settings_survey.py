"""All that is wrong with the settings at once, and settings to go on with."""

from __future__ import annotations

from pathlib import Path

import pytest

from chatrelaybot.settings_survey import survey

BOT, APP = "xoxb-1-2-abc", "xapp-1-A1-2-abc"


@pytest.fixture(autouse=True)
def _tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", BOT)
    monkeypatch.setenv("SLACK_APP_TOKEN", APP)


def test_good_settings_are_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKERS", "7")

    found = survey()

    assert found.wrong == ()
    assert found.settings is not None
    assert found.settings.workers == 7
    assert found.is_good("WORKERS", "SLACK_BOT_TOKEN")


def test_every_wrong_setting_is_named_and_the_others_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"WORKERS": "many", "LOG_FORMAT": "xml", "DATABASE_URL": "mysql://x", "REPLY_IN": ""}
    for name, value in {**values, "PORT": "81"}.items():
        monkeypatch.setenv(name, value)

    found = survey()

    assert [error.setting for error in found.wrong] == ["WORKERS", "DATABASE_URL", "LOG_FORMAT"]
    assert found.settings is not None
    assert (found.settings.workers, found.settings.port) == (100, 81)
    assert not found.is_good("PORT", "WORKERS")
    assert found.is_good("PORT")


def test_swapped_tokens_are_one_slip_and_neither_can_be_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SLACK_BOT_TOKEN", APP)
    monkeypatch.setenv("SLACK_APP_TOKEN", BOT)

    found = survey()

    (error,) = found.wrong
    assert "swapped" in error.problem
    assert not found.is_good("SLACK_BOT_TOKEN")
    assert not found.is_good("SLACK_APP_TOKEN")


def test_settings_that_are_wrong_only_together_are_found_after_the_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WORKERS", "0")
    monkeypatch.setenv("BACKEND_DIALECT", "openai")
    monkeypatch.setenv("BACKEND_TOKEN", "secret")
    monkeypatch.setenv("BACKEND_HEADERS", '{"Authorization": "Basic x"}')

    found = survey()

    assert [error.setting for error in found.wrong] == [
        "WORKERS",
        "BACKEND_MODEL",
        "BACKEND_HEADERS",
    ]
    assert found.settings is not None


def test_missing_tokens_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLACK_BOT_TOKEN")
    monkeypatch.setenv("SLACK_APP_TOKEN", "")

    assert [error.setting for error in survey().wrong] == ["SLACK_BOT_TOKEN", "SLACK_APP_TOKEN"]


def test_names_that_are_nearly_those_of_settings_are_taken_for_slips(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BACKEND_ULR", "http://localhost")
    (tmp_path / ".env").write_text("SLACK_CHANNELS=C1\nCOLOUR=red\n", encoding="utf-8")

    assert survey().misspelt == {
        "BACKEND_ULR": "BACKEND_URL",
        "SLACK_CHANNELS": "SLACK_CHANNEL",
    }


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"WORKERS=\xff")

    found = survey()

    assert found.settings is None
    (error,) = found.wrong
    assert ".env" in error.setting
    assert not found.is_good("WORKERS")
