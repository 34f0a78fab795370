"""The file .env: what was read is said, and a mistake in it is found.

One of them: .venv/bin/pytest tests/stand_ins/test_env_file.py -k unknown
"""

import re
from pathlib import Path

import pytest

from operate.console import UsageError
from sandbox import environment
from sandbox.env_file import SETTINGS, read_env_file
from sandbox.environment import ROOT, read_settings


def test_what_was_read_is_said_without_the_values(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("# mine\nDIMMY_API_KEY='a key'\nPORT=8081\nPUBSUB=\n")

    read = read_env_file(path)

    assert read.values == {"DIMMY_API_KEY": "a key", "PORT": "8081"}
    assert read.describe() == [".env: DIMMY_API_KEY, PORT"]


def test_an_unknown_name_is_said_with_the_one_that_was_probably_meant(tmp_path: Path) -> None:
    path = tmp_path / ".env"
    path.write_text("PORTT=8081\nsigning_secret=whsec_x\nCOLOUR=red\n")

    assert read_env_file(path).describe() == [
        ".env: PORTT is unknown and was ignored: did you mean PORT?",
        ".env: signing_secret is unknown and was ignored: did you mean SIGNING_SECRETS?",
        ".env: COLOUR is unknown and was ignored.",
    ]


@pytest.mark.parametrize("line", ["DIMMY_API_KEY a-key", "DIMMY_API_KEY='a-key", "= a-key"])
def test_a_line_that_cannot_be_read_is_an_error_with_its_number(tmp_path: Path, line: str) -> None:
    path = tmp_path / ".env"
    path.write_text(f"PORT=8081\n\n{line}\n")

    with pytest.raises(UsageError, match=r"\.env, line 3: write NAME=value") as error:
        read_env_file(path)

    assert "a-key" not in str(error.value)


def test_a_missing_file_has_no_settings(tmp_path: Path) -> None:
    assert read_env_file(tmp_path / ".env").describe() == []


def test_an_empty_variable_of_the_environment_does_not_hide_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make` exports some of its variables empty."""
    path = tmp_path / ".env"
    path.write_text("PHOTOS=archive\nPORT=8081\n")
    monkeypatch.setattr(environment, "ENV_FILE", path)
    monkeypatch.setenv("PHOTOS", "")
    monkeypatch.setenv("PORT", "8082")

    settings = read_settings()

    assert (settings["PHOTOS"], settings["PORT"]) == ("archive", "8082")


def test_the_example_has_only_known_settings() -> None:
    example = (ROOT / ".env.example").read_text()

    assert set(re.findall(r"^(?:# )?([A-Z_]+)=", example, re.MULTILINE)) <= set(SETTINGS)
