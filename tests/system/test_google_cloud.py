"""A deployment from beginning to end: the real gcloud and Terraform on a local Google Cloud.

With Google's provider the complete deployment is tested. Where `terraform init` does not find it, a
program stands in for Terraform, and the summary of the run says so.

One of them: .venv/bin/pytest tests/system/test_google_cloud.py -k destroy
"""

import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from operate.google.deployment import ROOT
from sandbox.background import Background
from sandbox.google_cloud.environment import google_environment
from sandbox.google_cloud.server import GoogleCloud
from sandbox.stack import new_secret
from support.operator import API_KEY, Operator
from support.programs import GOOGLE_PROVIDER, finds_google_provider, needs

pytestmark = [needs("gcloud"), needs("terraform"), pytest.mark.xdist_group("gcloud")]

_REGION = "europe-west1"
_NO_CHANGES = "No changes. Your infrastructure matches the configuration."
_OPTIONS = """
alert_emails           = ["a@example.com", "b@example.com"]
bigquery               = true
budget = {
  billing_account = "000000-000000-000000"
  amount          = 300
  currency        = "EUR"
}
egress                 = {}
github_repository      = "warehouse/dimmy"
photos                 = "archive"
item_subscribers       = { wms = { endpoint = "https://wms.example.com/items" } }
load_balancer          = { domain = "hooks.example.com", ipv6 = true }
receipt_retention_days = 90
reconcile_ingress      = "ALLOW_INTERNAL_ONLY"
silence_alert_hours    = 20
"""


@pytest.fixture
def cloud(background: Background) -> Iterator[GoogleCloud]:
    """A new project of an organisation that allows one region; the end finds no unknown request."""
    cloud = GoogleCloud()
    cloud.project.allowed_locations = (_REGION,)
    background.run(cloud.start())
    yield cloud
    background.run(cloud.stop())
    assert cloud.unknown == []


@pytest.fixture
def operate(cloud: GoogleCloud, tmp_path: Path) -> Callable[..., Operator]:
    """Somebody with gcloud who is signed in, and with Terraform or what is `replaced`."""

    def start(replaced: Sequence[str] = ()) -> Operator:
        configuration = {k: v for k, v in os.environ.items() if k == "TF_CLI_CONFIG_FILE"}
        environment = google_environment(cloud.url, tmp_path)
        return Operator(tmp_path, replaced, configuration | environment)

    return start


def _run(operator: Operator, command: str, status: int = 0, **settings: str) -> str:
    """Run a command, check its exit status, and return what it printed."""
    stdin = settings.pop("stdin", "")
    found = operator.run(command, YES="1", PAUSE_SECONDS="0.1", stdin=stdin, **settings)
    assert found == status, operator.printed
    return operator.printed


def _assert_nothing_to_change(operator: Operator) -> None:
    planned = _run(operator, "plan").partition("Terraform will perform")[2]
    assert not planned
    assert _NO_CHANGES in operator.printed


def _secrets() -> str:
    return f"DIMMY_API_KEY={API_KEY}\nSIGNING_SECRETS={new_secret()}\n"


def test_bootstrap_and_secrets_of_a_new_project(
    cloud: GoogleCloud, operate: Callable[..., Operator]
) -> None:
    """Up to where Terraform begins."""
    operator = operate(replaced=["terraform"])
    cloud.project.disable("storage")
    cloud.project.disabled_answers = 2

    assert "make bootstrap ENV=dev" in _run(operator, "secrets", 2)
    assert "Google is still enabling the" in _run(operator, "bootstrap")

    assert {"pubsub", "secretmanager", "storage"} <= cloud.project.enabled
    assert any("gcp-sa-pubsub" in agent for agent in cloud.project.agents)
    bucket = cloud.resource("storage", "warehouse-1-dimmy-terraform-state")
    assert bucket is not None
    assert bucket["location"] == _REGION.upper()
    assert bucket["versioning"] == {"enabled": True}
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"


@pytest.fixture
def google_provider() -> None:
    if not finds_google_provider():
        pytest.skip(f"{GOOGLE_PROVIDER} is not found by terraform init: only its schema was used")


@pytest.mark.usefixtures("google_provider")
def test_an_installation_from_bootstrap_to_destroy(
    cloud: GoogleCloud, operate: Callable[..., Operator]
) -> None:
    operator = operate()
    cloud.project.disabled_answers = 1
    plain = operator.variables.read_text()

    printed = _run(operator, "bootstrap")
    assert "6 service accounts" in printed
    assert "may be incomplete" not in printed
    assert "Done. Next: make secrets" in _run(operator, "bootstrap")
    _run(operator, "secrets", stdin=_secrets())

    assert "The webhook URL:" in _run(operator, "deploy")
    _assert_nothing_to_change(operator)
    assert "dimmy-dev-receive" in _run(operator, "status")
    printed = _run(operator, "doctor", 1, DIMMY_API_URL="https://127.0.0.1:1")
    assert "pushes to resolve" in printed
    assert "allUsers may call it" in printed
    assert "2 to solve." in printed, "neither Dimmy's API nor the functions run here"

    _run(operator, "secrets", stdin=f"SIGNING_SECRETS={new_secret()}\n")
    assert "dimmy-dev-signing-secrets, version 1 becomes 2" in _run(operator, "rotate")
    assert "is the newest one, or is read" in _run(operator, "retire")
    assert "1 changed" in _run(operator, "deploy")
    assert "dimmy-dev-signing-secrets, version 1" in _run(operator, "retire")
    assert "is the newest one, or is read" in _run(operator, "retire")

    cloud.pubsub.unknown_grant_answers = 1
    operator.variables.write_text(plain + _OPTIONS)
    assert "own URL stays open" in _run(operator, "deploy")
    _assert_nothing_to_change(operator)
    certificate = next(
        name for name in cloud.compute.resources.names() if "sslCertificates" in name
    )
    cloud.compute.set_certificate_status(certificate.rpartition("/")[2], "ACTIVE")
    assert "own URL stays open" not in _run(operator, "deploy")
    operator.variables.write_text(plain + _OPTIONS.replace(', "b@example.com"', ""))
    assert "1 destroyed" in _run(operator, "deploy")
    operator.variables.write_text(plain)
    _run(operator, "deploy")

    _run(operator, "destroy")
    _assert_only_the_state_is_left(cloud)


def _assert_only_the_state_is_left(cloud: GoogleCloud) -> None:
    left = {name for name in cloud.storage.resources.names() if "/" not in name}
    assert left == {"warehouse-1-dimmy-terraform-state"}


@pytest.mark.usefixtures("google_provider")
def test_an_installation_that_is_encrypted_with_a_key_of_its_own(
    cloud: GoogleCloud, operate: Callable[..., Operator]
) -> None:
    """Google's services may use the key only once they have the role."""
    operator = operate()
    key = cloud.kms.create_key(f"{cloud.project.name}/locations/{_REGION}/keyRings/r/cryptoKeys/k")
    operator.add_variables(f'bigquery = true\nkms_key = "{key}"')

    _run(operator, "bootstrap")
    _run(operator, "secrets", stdin=_secrets())
    assert "The webhook URL:" in _run(operator, "deploy")
    _assert_nothing_to_change(operator)
    topic = cloud.resource("pubsub", "topics/dimmy-dev-events")
    assert topic is not None
    assert topic["kmsKeyName"] == key

    _run(operator, "destroy")
    _assert_only_the_state_is_left(cloud)


# The version before infra/modules, and what its upgrade deletes or replaces: grants, and nothing
# that holds scans.
_BEFORE_MODULES = "14633fd"
_DELETED = {
    'google_bigquery_table.lines["event_lines"]',
    'google_bigquery_table.lines["item_lines"]',
    "google_pubsub_topic.items[0]",
    "google_pubsub_topic_iam_member.storage_publishes_items[0]",
    "google_storage_notification.items[0]",
    'module.dimmy.google_pubsub_subscription_iam_member.agent_takes_dead_letters["resolve"]',
    'module.dimmy.google_storage_bucket_iam_member.function["reconciler-writes"]',
    "module.dimmy.google_storage_bucket_object.archive",
}


@pytest.mark.usefixtures("google_provider")
def test_an_upgrade_from_before_the_module_keeps_what_holds_data(
    cloud: GoogleCloud, operate: Callable[..., Operator]
) -> None:
    # Neither a strict organisation nor a new project, with which that version cannot cope.
    cloud.project.allowed_locations = None
    cloud.project.create_agent("gcp-sa-pubsub")
    operator = operate()
    current = {name: operator.tree / name for name in ("function", "infra")}
    kept = {name: path.rename(operator.folder / f"new-{name}") for name, path in current.items()}
    _check_out(_BEFORE_MODULES, operator.tree)
    plain = operator.variables.read_text()
    operator.variables.write_text(f"{plain}\nbigquery = true\nitem_notifications = true\n")

    _run_earlier(operator, "bootstrap")
    _run_earlier(operator, "secrets", _secrets())
    _run_earlier(operator, "deploy")
    for name, path in current.items():
        shutil.rmtree(path)
        kept[name].rename(path)
    operator.variables.write_text(f"{plain}\nbigquery = true\n")

    printed = _run(operator, "plan")
    deleted = set(
        re.findall(r"# (\S+)(?: \(.+\))? (?:will|must) be (?:destroyed|replaced)", printed)
    )
    assert deleted == _DELETED
    assert "The webhook URL:" in _run(operator, "deploy")
    _assert_nothing_to_change(operator)
    _run(operator, "destroy")
    _assert_only_the_state_is_left(cloud)


def _check_out(commit: str, tree: Path) -> None:
    archive = ["git", "-C", str(ROOT), "archive", commit, "function", "infra"]
    packed = subprocess.run(archive, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as files:
        files.extractall(tree, filter="data")


def _run_earlier(operator: Operator, command: str, stdin: str = "") -> None:
    """Run a command of the version before infra/modules."""
    done = subprocess.run(
        [sys.executable, "-m", f"operate.{command}"],
        env=operator.environment({"YES": "1"}),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
