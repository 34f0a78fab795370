"""`make screenshots`: the pictures of the documents.

One of them: .venv/bin/pytest tests/system/test_screenshots.py -k small
"""

import struct
import sys
from pathlib import Path

import pytest

import screenshots
from operate.google.deployment import ROOT
from support.programs import PROGRAMS, needs


@needs("chromium")
def test_the_pictures_are_small_and_have_the_names_and_sizes_of_those_in_the_documents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["screenshots", "--folder", str(tmp_path)])

    assert screenshots.main() == 0
    taken = {path.name: path for path in tmp_path.iterdir()}
    assert taken.keys() == {path.name for path in (ROOT / ".images").iterdir()}
    for name, path in taken.items():
        content = path.read_bytes()
        assert content.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(content) < 200_000, name
        assert _size(content) == _size((ROOT / ".images" / name).read_bytes())


def _size(picture: bytes) -> tuple[int, int]:
    """The width and the height in a PNG's header."""
    width, height = struct.unpack(">II", picture[16:24])
    return width, height


def test_a_missing_browser_is_reported_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["screenshots", "--folder", str(tmp_path)])

    assert screenshots.main() == 2
    printed = capsys.readouterr().err
    assert printed == f"Chromium is not installed: {PROGRAMS['chromium'].installation}\n"
    assert list(tmp_path.iterdir()) == []
