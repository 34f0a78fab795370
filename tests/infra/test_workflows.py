"""The workflows of GitHub Actions: their form, their security, and what they call.

One of them: .venv/bin/pytest tests/infra/test_workflows.py -k zizmor
"""

import re
import subprocess
import sys
from pathlib import Path

from operate.google.deployment import ROOT

WORKFLOWS = ROOT / ".github" / "workflows"


def test_zizmor_finds_no_fault() -> None:
    """Actions are pinned by commit, permissions are few, no untrusted text reaches a shell."""
    zizmor = Path(sys.executable).with_name("zizmor")
    done = subprocess.run(
        [zizmor, "--offline", "--no-progress", WORKFLOWS],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr


def test_workflows_call_commands_that_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    texts = {path.name: path.read_text() for path in WORKFLOWS.glob("*.yml")}

    called = {name for text in texts.values() for name in re.findall(r"\bmake ([a-z-]+)", text)}
    assert called == {"deploy", "plan"}
    assert called <= targets
    assert (ROOT / ".ci" / "run").exists()
    assert ".ci/run" in texts["test-and-deploy.yml"]


def test_only_a_deployment_on_the_main_branch_acts_as_the_deployer() -> None:
    texts = {path.name: path.read_text() for path in WORKFLOWS.glob("*.yml")}

    assert [name for name, text in texts.items() if "GCP_DEPLOYER" in text] == [
        "test-and-deploy.yml"
    ]
    assert "branches: [main]" in texts["test-and-deploy.yml"]
    assert "environment: ${{" in texts["test-and-deploy.yml"], "GitHub asks its reviewers"
    assert "needs: test" in texts["test-and-deploy.yml"]


def test_the_document_names_every_variable_of_the_workflows() -> None:
    document = (ROOT / "infra" / "README.md").read_text()
    used = {
        name
        for path in WORKFLOWS.glob("*.yml")
        for name in re.findall(r"vars\.([A-Z_]+)", path.read_text())
    }

    assert used == set(re.findall(r"`(GCP_[A-Z_]+)`", document))
