"""The README names every command, setting, variable and package, and none that does not exist.

One of them: .venv/bin/pytest tests/system/test_readme.py -k commands
"""

import re

import pytest

from operate.google.deployment import ROOT
from terraform.checks import names_read

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def section(heading: str) -> str:
    """What stands below a heading, up to the next."""
    below = README.partition(f"\n{heading}\n")[2]
    return re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]


def test_commands_are_those_of_the_makefile() -> None:
    there_are = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|    |= )make ([a-z-]+)", README))

    assert mentioned <= there_are, "of no use to anybody"
    # What only a developer needs is explained by `make help`, which is mentioned.
    assert there_are - mentioned <= {"format", "lint"}


def test_what_a_command_takes_is_what_the_makefile_passes_on() -> None:
    exported = re.search(r"^export (.+)$", MAKEFILE, re.MULTILINE)
    assert exported
    passed_on = set(exported[1].split())
    for name in passed_on:
        assert re.search(rf"\b{name}=", README), f"{name} is not explained"


@pytest.mark.parametrize("entry_point", ["receive", "resolve", "reconcile"])
def test_settings_are_those_that_the_functions_read(entry_point: str) -> None:
    table = section("## Settings")
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([a-z, ]+) \|", table, re.MULTILINE)
    explained = {
        name
        for names, used_by in rows
        for name in re.findall(r"`([A-Z_]+)`", names)
        if used_by == "all" or entry_point in used_by
    }

    assert explained == names_read(entry_point)


def test_variables_are_those_of_terraform() -> None:
    declared = set(
        re.findall(
            r'^variable "(\w+)"', (ROOT / "infra" / "variables.tf").read_text(), re.MULTILINE
        )
    )
    text = section("### What can be set")
    explained = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", text))

    assert declared <= explained
    assert explained & {"project", "archive", "secret_versions"}


def test_files_are_where_it_says() -> None:
    """Each line of the tree names a path, below the line that is less indented."""
    folders = {0: ROOT}
    named = set()
    lines = re.findall(r"^    ( *)(\S+)  ", section("## Where things are"), re.MULTILINE)
    for indentation, path in lines:
        folder = next(folders[n] for n in range(len(indentation), -1, -1) if n in folders)
        assert list(folder.glob(path.rstrip("/"))), path
        folders = {n: f for n, f in folders.items() if n <= len(indentation)}
        folders[len(indentation) + 1] = folder / path.partition("*")[0]
        named.add((folder / path.rstrip("/")).relative_to(ROOT).as_posix())

    packages = {
        module.parent.relative_to(ROOT).as_posix()
        for folder in ("function", "infra/operate")
        for module in (ROOT / folder).rglob("*.py")
    }
    assert packages - {"function/pipeline"} <= named


def test_no_line_is_over_120_characters() -> None:
    assert [line for line in README.splitlines() if len(line) > 120] == []
