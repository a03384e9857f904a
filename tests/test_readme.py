from __future__ import annotations

import re
from pathlib import Path

import pytest

from chatrelaybot.settings import Settings

_TOP = Path(__file__).parent.parent


@pytest.mark.parametrize("name", [field.upper() for field in Settings.model_fields])
def test_a_setting_stands_in_the_readme_table_and_in_the_example_file(name: str) -> None:
    readme = (_TOP / "README.md").read_text(encoding="utf-8")
    example = (_TOP / ".env.example").read_text(encoding="utf-8")

    # In the first column, alone or with others of its kind: | `HTTP_HOST`, `HTTP_PORT` | … |
    assert re.search(rf"^\|[^|]*`{name}`[^|]*\|", readme, re.MULTILINE)
    assert re.search(rf"^{name}=", example, re.MULTILINE)
