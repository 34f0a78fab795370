"""Which package may import which, as `.importlinter` says and tests/README.md shows.

One of them: .venv/bin/pytest tests/shared/test_layers.py -k picture
"""

import configparser
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from operate.google.deployment import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(*folders: Path) -> "subprocess.CompletedProcess[str]":
    """Check the imports of the packages in these folders."""
    return subprocess.run(
        [LINT, "--no-cache", "--no-logo", ROOT / ".importlinter"],
        env={"PYTHONPATH": ":".join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )


def layers(contract: str) -> Iterator[list[str]]:
    """The packages of each layer, from the top."""
    written = configparser.ConfigParser()
    written.read(ROOT / ".importlinter")
    for line in written[f"importlinter:contract:{contract}"]["layers"].split("\n"):
        if line:
            yield re.findall(r"\w+", line)


def test_each_package_imports_only_what_is_below_it() -> None:
    done = lint(ROOT / "function", ROOT / "infra", ROOT / "tests")

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("pipeline/receive/body.py", "pipeline.resolve.push"),
        ("pipeline/receive/body.py", "pipeline.dimmy.client"),
        ("pipeline/store/items.py", "pipeline.dimmy.client"),
        ("pipeline/json_text.py", "pipeline.store.items"),
        ("pipeline/store/errors.py", "pipeline.store.store"),
        ("pipeline/logs.py", "operate.console"),
        ("operate/diagnosis/story.py", "sandbox.journal"),
        ("operate/view/index.py", "operate.commands.view"),
    ],
)
def test_an_import_upwards_or_in_a_circle_is_found(
    module: str, imported: str, tmp_path: Path
) -> None:
    for folder, package in (("function", "pipeline"), ("infra", "operate"), ("tests", "sandbox")):
        for source in (ROOT / folder / package).rglob("*.py"):
            copy = tmp_path / source.relative_to(ROOT / folder)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(source.read_bytes())
    changed = tmp_path / module
    changed.write_text(f"{changed.read_text()}\nimport {imported}\n")

    done = lint(tmp_path)

    assert done.returncode == 1, done.stderr
    assert "BROKEN" in done.stdout


def test_the_picture_in_the_document_shows_the_layers_of_the_pipeline() -> None:
    text = (ROOT / "tests" / "README.md").read_text().partition("\n### Layers\n")[2]
    picture = re.findall(r"^ +(.*\w.*)$", text.split("```")[1], re.MULTILINE)
    names = [set(re.findall(r"\w+", re.split(r" {4,}", line)[0])) for line in picture]

    assert names == [set(layer) for layer in layers("pipeline")]
