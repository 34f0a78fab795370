"""The README names every command, setting, variable and package, and none that does not exist.

One of them: .venv/bin/pytest tests/system/test_readme.py -k commands
"""

import re

import pytest

from operate.google.deployment import MODULE, ROOT
from terraform.checks import names_read

README = (ROOT / "README.md").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()


def section(heading: str) -> str:
    """The text below a heading, up to the next heading."""
    below = README.partition(f"\n{heading}\n")[2]
    return re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]


def test_commands_match_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):.*##", MAKEFILE, re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|    |= )make ([a-z-]+)", README))

    assert mentioned <= targets, "the Makefile has no such target"
    # Only developers need these two, and `make help` explains them.
    assert targets - mentioned <= {"format", "lint"}


def test_every_variable_that_the_makefile_exports_is_explained() -> None:
    exported = re.search(r"^export (.+)$", MAKEFILE, re.MULTILINE)
    assert exported
    exported_names = set(exported[1].split())
    for name in exported_names:
        assert re.search(rf"\b{name}=", README), f"{name} is not explained"


@pytest.mark.parametrize("entry_point", ["receive", "resolve", "reconcile"])
def test_settings_match_those_that_the_functions_read(entry_point: str) -> None:
    table = section("## Settings")
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([a-z, ]+) \|", table, re.MULTILINE)
    explained = {
        name
        for names, used_by in rows
        for name in re.findall(r"`([A-Z_]+)`", names)
        if used_by == "all" or entry_point in used_by
    }

    assert explained == names_read(entry_point)


def test_every_terraform_variable_is_explained() -> None:
    declared = set(
        re.findall(r'^variable "(\w+)"', (MODULE / "variables.tf").read_text(), re.MULTILINE)
    )
    text = section("### What can be set")
    explained = set(re.findall(r"`([a-z]+(?:_[a-z]+)*)`", text))

    assert declared <= explained
    assert explained & {"project", "archive", "secret_versions"}


def test_the_tree_lists_every_package_and_only_existing_paths() -> None:
    """Each line of the tree names a path relative to the line above with less indentation."""
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
