"""Operating an installation needs the packages of infra/operate/requirements.txt and no others.

One of them: .venv/bin/pytest tests/operate/test_own_packages.py -k import
"""

import re
import subprocess
import sys
from pathlib import Path

from operate.google.deployment import ROOT

OPERATE = ROOT / "infra" / "operate"
IMPORT_EVERYTHING = """
import importlib, pkgutil, operate
for module in pkgutil.walk_packages(operate.__path__, "operate."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
"""


def test_every_module_can_be_imported_with_only_these_packages(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "env"], check=True)
    python = tmp_path / "env" / "bin" / "python"
    pip = "-m pip install --quiet --no-compile --require-hashes -r"
    subprocess.run([python, *pip.split(), OPERATE / "requirements.txt"], check=True)

    done = subprocess.run(
        [python, "-c", IMPORT_EVERYTHING],
        env={"PYTHONPATH": f"{ROOT}/function:{ROOT}/infra"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert {"operate.commands.status", "operate.view.site"} <= set(done.stdout.split())


def test_tools_of_developers_are_not_required() -> None:
    pinned = re.findall(r"^([\w.-]+)==", (OPERATE / "requirements.txt").read_text(), re.MULTILINE)

    assert not {"selenium", "duckdb", "mypy", "pytest", "functions-framework"} & set(pinned)
    assert len(pinned) < 50
