"""`make mutants`: break `infra/` in many ways, and count how many of them the checks notice."""

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from operate.console import open_console
from operate.google.deployment import INFRA
from terraform.checks import CheckError, check_all, make_tidy
from terraform.provider import GoogleProvider


@dataclass(frozen=True)
class Mutant:
    """One way to break it: in a file, this text becomes that one."""

    name: str
    file: str
    text: str
    becomes: str


MUTANTS = (
    Mutant(
        "a role dropped",
        "pubsub.tf",
        'role   = "roles/pubsub.publisher"\n  member = local._members["receiver"]',
        'role   = "roles/pubsub.viewer"\n  member = local._members["receiver"]',
    ),
    Mutant(
        "a role for too many",
        "secrets.tf",
        'readers = ["receiver"]',
        'readers = ["receiver", "resolver"]',
    ),
    Mutant("a role without its condition", "storage.tf", '/${folder}/\\")"', '/\\")"'),
    Mutant(
        "resolve for the public",
        "functions.tf",
        'resolve   = local._members["pusher"]',
        'resolve   = "allUsers"',
    ),
    Mutant(
        "reconcile for the pusher",
        "functions.tf",
        'reconcile = local._members["scheduler"]',
        'reconcile = local._members["pusher"]',
    ),
    Mutant("ingress opened", "functions.tf", '"ALLOW_INTERNAL_ONLY"', '"ALLOW_ALL"'),
    Mutant("ingress misspelt", "functions.tf", '"ALLOW_INTERNAL_ONLY"', '"ALLOW_INTERNAL"'),
    Mutant(
        "receive open behind its load balancer",
        "functions.tf",
        '"ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB"',
        '"ALLOW_ALL" : "ALLOW_ALL"',
    ),
    Mutant(
        "no dead letters",
        "pubsub.tf",
        "  dead_letter_policy {\n    dead_letter_topic     = google_pubsub_topic.dead_letters.id\n    max_delivery_attempts = var.max_delivery_attempts\n  }\n\n",
        "",
    ),
    Mutant(
        "dead letters without permission",
        "pubsub.tf",
        'role         = "roles/pubsub.subscriber"',
        'role         = "roles/pubsub.viewer"',
    ),
    Mutant(
        "a typo in an attribute",
        "pubsub.tf",
        'ack_deadline_seconds       = local._ack_deadline_seconds\n  message_retention_duration = "${var.event',
        'ack_deadline               = local._ack_deadline_seconds\n  message_retention_duration = "${var.event',
    ),
    Mutant(
        "a deadline beyond the limit",
        "functions.tf",
        "_ack_deadline_seconds    = 600",
        "_ack_deadline_seconds    = 660",
    ),
    Mutant(
        "a timeout above the ack deadline",
        "functions.tf",
        "_resolve_timeout_seconds = 540",
        "_resolve_timeout_seconds = 900",
    ),
    Mutant(
        "an attempt longer than its function",
        "functions.tf",
        "_attempt_seconds         = 500",
        "_attempt_seconds         = 539",
    ),
    Mutant("a subscription that expires", "pubsub.tf", '    ttl = ""', '    ttl = "2678400s"'),
    Mutant(
        "no backoff",
        "pubsub.tf",
        '  retry_policy {\n    minimum_backoff = "10s"\n    maximum_backoff = "600s"\n  }\n\n  dead_letter_policy',
        "  dead_letter_policy",
    ),
    Mutant(
        "a token for someone else",
        "pubsub.tf",
        "audience              = local._resolve_url",
        "audience              = local._reconcile_url",
    ),
    Mutant("one request at a time", "functions.tf", "concurrency     = 8", "concurrency     = 1"),
    Mutant(
        "fewer threads than requests",
        "functions.tf",
        "THREADS = tostring(each.value.concurrency)",
        'THREADS = "4"',
    ),
    Mutant(
        "a setting that nobody reads",
        "functions.tf",
        "    LOG_LEVEL            = var.log_level",
        '    LOG_LEVEL  = var.log_level\n    LOG_COLOUR = "no"',
    ),
    Mutant(
        "a setting that is not given",
        "functions.tf",
        "    DIMMY_API_URL         = var.dimmy_api_url\n",
        "",
    ),
    Mutant(
        "a setting that is refused",
        "functions.tf",
        'LOG_FORMAT           = "json"',
        'LOG_FORMAT = "jsonl"',
    ),
    Mutant(
        "a secret as a plain setting",
        "functions.tf",
        'LOG_FORMAT           = "json"',
        'LOG_FORMAT    = "json"\n    DIMMY_API_KEY = "a-key-of-the-tests"',
    ),
    Mutant(
        "a secret's version that moves",
        "functions.tf",
        "var.secret_versions[secret.value]",
        '"latest"',
    ),
    Mutant(
        "a bucket that may be public",
        "storage.tf",
        'public_access_prevention    = "enforced"\n  force_destroy               = !var',
        'public_access_prevention    = "inherited"\n  force_destroy               = !var',
    ),
    Mutant("a bucket that forgets", "storage.tf", "    enabled = true", "    enabled = false"),
    Mutant("items that are deleted with the payloads", "storage.tf", '["payloads/"]', '[""]'),
    Mutant(
        "protection that protects nothing",
        "names.tf",
        '? "PREVENT" : "DELETE"',
        '? "DELETE" : "DELETE"',
    ),
    Mutant(
        "the default account builds",
        "functions.tf",
        '    service_account   = google_service_account.this["builder"].id\n',
        "",
    ),
    Mutant(
        "a validation that accepts all",
        "variables.tf",
        "var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100",
        "var.max_delivery_attempts >= 0 && var.max_delivery_attempts <= 1000",
    ),
    Mutant(
        "a schedule that is none",
        "variables.tf",
        'schedule = "17 * * * *"',
        'schedule = "hourly"',
    ),
    Mutant("an address of Svix less", "load_balancer.tf", '"54.90.7.123/32", ', ""),
    Mutant(
        "everyone through the load balancer",
        "load_balancer.tf",
        'action      = "deny(403)"\n    priority    = 2147483647',
        'action      = "allow"\n    priority    = 2147483647',
    ),
    Mutant("a table that splits its lines", "bigquery.tf", '"\\u0001"', '","'),
    Mutant(
        "an alert that looks elsewhere",
        "alerts.tf",
        "pubsub_subscription.dead_letters.name",
        "pubsub_subscription.resolve.name",
    ),
    Mutant(
        "an alert that needs more",
        "alerts.tf",
        "threshold = 0\n      text      = \"Dimmy's",
        "threshold = 10\n      text      = \"Dimmy's",
    ),
    Mutant(
        "an environment without protection",
        "envs/prod.tfvars",
        "deletion_protection = true",
        "deletion_protection = false",
    ),
    Mutant(
        "an environment with a typo",
        "envs/staging.tfvars",
        "receive_instances",
        "recieve_instances",
    ),
)


def main() -> int:
    console = open_console()
    table = Table("broken so", "noticed as", box=None, pad_edge=False)
    caught = 0
    with GoogleProvider() as provider, console.status("") as status:
        for mutant in MUTANTS:
            status.update(mutant.name)
            with tempfile.TemporaryDirectory() as folder:
                noticed = catch(mutant, provider, Path(folder))
            caught += bool(noticed)
            style = None if noticed else "red"
            table.add_row(mutant.name, noticed or "NOBODY NOTICED", style=style)
    console.print(table)
    console.print(f"{caught} of {len(MUTANTS)} noticed.")
    return 0 if caught == len(MUTANTS) else 1


def catch(mutant: Mutant, provider: GoogleProvider, folder: Path) -> str:
    """Break a copy; return the first line of what the checks say, or nothing.

    Raises:
        ValueError: the text that it changes is not there exactly once: the mutant is out of date.
    """
    broken = folder / "infra"
    shutil.copytree(INFRA, broken)
    file = broken / mutant.file
    before = file.read_text()
    if mutant.text not in before:
        raise ValueError(f"{mutant.file} has nothing to break by: {mutant.name}")
    file.write_text(before.replace(mutant.text, mutant.becomes))
    make_tidy(broken)  # so that nobody notices it by its form
    try:
        check_all(broken, provider)
    except CheckError as error:
        return " ".join(str(error).split())[:80]
    return ""


if __name__ == "__main__":
    sys.exit(main())
