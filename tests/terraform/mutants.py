"""`make mutants`: add faults to `infra/`, one at a time, and count those that are detected."""

import re
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from operate.console import open_console
from operate.google.deployment import INFRA
from terraform.checks import CheckError, check_all, format_folder
from terraform.provider import GoogleProvider


@dataclass(frozen=True)
class Mutant:
    """A fault: in one file, `text` is replaced by `replacement`."""

    name: str
    file: str
    text: str
    replacement: str


MUTANTS = (
    Mutant(
        "receiver cannot publish",
        "modules/dimmy/pubsub.tf",
        'role   = "roles/pubsub.publisher"\n  member = local._members["receiver"]',
        'role   = "roles/pubsub.viewer"\n  member = local._members["receiver"]',
    ),
    Mutant(
        "resolver reads the signing secret",
        "modules/dimmy/secrets.tf",
        'readers = ["receiver"]',
        'readers = ["receiver", "resolver"]',
    ),
    Mutant(
        "a role on all objects of the bucket",
        "modules/dimmy/storage.tf",
        '/${folder}/\\")"',
        '/\\")"',
    ),
    Mutant(
        "resolve is public",
        "modules/dimmy/functions.tf",
        'resolve   = local._members["pusher"]',
        'resolve   = "allUsers"',
    ),
    Mutant(
        "reconcile is called by the pusher",
        "modules/dimmy/functions.tf",
        'reconcile = local._members["scheduler"]',
        'reconcile = local._members["pusher"]',
    ),
    Mutant("open ingress", "modules/dimmy/functions.tf", '"ALLOW_INTERNAL_ONLY"', '"ALLOW_ALL"'),
    Mutant(
        "misspelt ingress",
        "modules/dimmy/functions.tf",
        '"ALLOW_INTERNAL_ONLY"',
        '"ALLOW_INTERNAL"',
    ),
    Mutant(
        "reconcile with an open ingress in any case",
        "modules/dimmy/functions.tf",
        "ingress = var.reconcile_ingress",
        'ingress = "ALLOW_ALL"',
    ),
    Mutant(
        "allUsers in spite of public_invoker",
        "modules/dimmy/functions.tf",
        'var.public_invoker ? { receive = "allUsers" } : {},',
        '{ receive = "allUsers" },',
    ),
    Mutant(
        "a forged address beside the load balancer",
        "modules/dimmy/functions.tf",
        "TRUSTED_PROXY_HOPS = local._receive_is_open ?",
        "TRUSTED_PROXY_HOPS = var.load_balancer == null ?",
    ),
    Mutant(
        "a group that is deleted while it is in use",
        "modules/dimmy/load_balancer.tf",
        '  lifecycle {\n    create_before_destroy = true\n  }\n\n  depends_on = [google_project_service.required]\n}\n\nresource "google_compute_backend',
        '  depends_on = [google_project_service.required]\n}\n\nresource "google_compute_backend',
    ),
    Mutant(
        "a function that is created before the old one is deleted",
        "modules/dimmy/load_balancer.tf",
        '    service = "${local._prefix}-receive"',
        '    service = google_cloudfunctions2_function.this["receive"].name',
    ),
    Mutant(
        "receive reachable without its load balancer",
        "modules/dimmy/functions.tf",
        '"ALLOW_ALL" : "ALLOW_INTERNAL_AND_GCLB"',
        '"ALLOW_ALL" : "ALLOW_ALL"',
    ),
    Mutant(
        "no dead letters",
        "modules/dimmy/pubsub.tf",
        '  dead_letter_policy {\n    dead_letter_topic     = google_pubsub_topic.dead_letters["resolve"].id\n    max_delivery_attempts = var.max_delivery_attempts\n  }\n\n',
        "",
    ),
    Mutant(
        "no permission to forward dead letters",
        "modules/dimmy/dead_letters.tf",
        'role         = "roles/pubsub.subscriber"',
        'role         = "roles/pubsub.viewer"',
    ),
    Mutant(
        "a typo in an attribute",
        "modules/dimmy/pubsub.tf",
        'ack_deadline_seconds       = local._ack_deadline_seconds\n  message_retention_duration = "${var.event',
        'ack_deadline               = local._ack_deadline_seconds\n  message_retention_duration = "${var.event',
    ),
    Mutant(
        "an ack deadline beyond the limit",
        "modules/dimmy/functions.tf",
        "_ack_deadline_seconds    = 600",
        "_ack_deadline_seconds    = 660",
    ),
    Mutant(
        "a timeout above the ack deadline",
        "modules/dimmy/functions.tf",
        "_push_timeout_seconds = 540",
        "_push_timeout_seconds = 900",
    ),
    Mutant(
        "an attempt longer than its function",
        "modules/dimmy/functions.tf",
        "_attempt_seconds         = 500",
        "_attempt_seconds         = 539",
    ),
    Mutant(
        "a subscription that expires",
        "modules/dimmy/pubsub.tf",
        '    ttl = ""',
        '    ttl = "2678400s"',
    ),
    Mutant(
        "no backoff",
        "modules/dimmy/pubsub.tf",
        '  retry_policy {\n    minimum_backoff = "10s"\n    maximum_backoff = "600s"\n  }\n\n  dead_letter_policy',
        "  dead_letter_policy",
    ),
    Mutant(
        "a token for another audience",
        "modules/dimmy/pubsub.tf",
        "audience              = local._resolve_url",
        "audience              = local._reconcile_url",
    ),
    Mutant(
        "one request at a time",
        "modules/dimmy/functions.tf",
        "concurrency     = 8",
        "concurrency     = 1",
    ),
    Mutant(
        "fewer threads than requests",
        "modules/dimmy/functions.tf",
        "THREADS = tostring(each.value.concurrency)",
        'THREADS = "4"',
    ),
    Mutant(
        "a setting that no function reads",
        "modules/dimmy/functions.tf",
        "    LOG_LEVEL            = var.log_level",
        '    LOG_LEVEL  = var.log_level\n    LOG_COLOUR = "no"',
    ),
    Mutant(
        "a missing setting",
        "modules/dimmy/functions.tf",
        "    DIMMY_API_URL         = var.dimmy_api_url\n",
        "",
    ),
    Mutant(
        "an invalid setting",
        "modules/dimmy/functions.tf",
        'LOG_FORMAT           = "json"',
        'LOG_FORMAT = "jsonl"',
    ),
    Mutant(
        "photos from any host",
        "modules/dimmy/functions.tf",
        '        PHOTO_HOSTS     = join(" ", var.photo_hosts)\n',
        "",
    ),
    Mutant(
        "a secret as a plain environment variable",
        "modules/dimmy/functions.tf",
        'LOG_FORMAT           = "json"',
        'LOG_FORMAT    = "json"\n    DIMMY_API_KEY = "a-key-of-the-tests"',
    ),
    Mutant(
        "the latest version of a secret",
        "modules/dimmy/functions.tf",
        "var.secret_versions[secret.value]",
        '"latest"',
    ),
    Mutant(
        "a bucket that may be public",
        "modules/dimmy/storage.tf",
        'public_access_prevention    = "enforced"\n  force_destroy               = !var',
        'public_access_prevention    = "inherited"\n  force_destroy               = !var',
    ),
    Mutant(
        "a bucket without versioning",
        "modules/dimmy/storage.tf",
        "    enabled = true",
        "    enabled = false",
    ),
    Mutant(
        "items that are deleted with the payloads",
        "modules/dimmy/storage.tf",
        '["payloads/"]',
        '[""]',
    ),
    Mutant(
        "items that are deleted with the receipts",
        "modules/dimmy/storage.tf",
        '["events/"]\n        age',
        '["events/", "items/"]\n        age',
    ),
    Mutant(
        "a bucket of two regions in one",
        "modules/dimmy/storage.tf",
        "location                    = var.data_locations == null ? var.region : var.data_locations.multi_region",
        "location                    = var.region",
    ),
    Mutant(
        "a service that cannot use the key",
        "modules/dimmy/encryption.tf",
        '    cloud-run         = "service-${data.google_project.this.number}@serverless-robot-prod.iam.gserviceaccount.com"\n',
        "",
    ),
    Mutant(
        "a topic that is not encrypted",
        "modules/dimmy/items_topic.tf",
        "  kms_key_name = var.kms_key\n",
        "",
    ),
    Mutant(
        "a secret that is not encrypted",
        "modules/dimmy/secrets.tf",
        "for_each = var.kms_key == null ? [] : [var.kms_key]",
        "for_each = []",
    ),
    Mutant(
        "a bucket before the roles on its key",
        "modules/dimmy/storage.tf",
        "depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]",
        "depends_on = [google_project_service.required]",
    ),
    Mutant(
        "a former key that is lost",
        "modules/dimmy/encryption.tf",
        "[var.kms_key], var.former_kms_keys)",
        "[var.kms_key])",
    ),
    Mutant(
        "no deletion protection",
        "modules/dimmy/names.tf",
        '? "PREVENT" : "DELETE"',
        '? "DELETE" : "DELETE"',
    ),
    Mutant(
        "the default account builds",
        "modules/dimmy/functions.tf",
        '    service_account   = google_service_account.this["builder"].id\n',
        "",
    ),
    Mutant(
        "a validation that accepts too much",
        "modules/dimmy/variables.tf",
        "var.max_delivery_attempts >= 5 && var.max_delivery_attempts <= 100",
        "var.max_delivery_attempts >= 0 && var.max_delivery_attempts <= 1000",
    ),
    Mutant(
        "an invalid schedule",
        "modules/dimmy/variables.tf",
        'schedule = "17 * * * *"',
        'schedule = "hourly"',
    ),
    Mutant("a missing address of Svix", "modules/dimmy/load_balancer.tf", '"54.90.7.123/32", ', ""),
    Mutant(
        "IPv6 sources that the load balancer does not admit",
        "modules/dimmy/load_balancer.tf",
        'range if balancer.ipv6 || !strcontains(range, ":")',
        'range if !strcontains(range, ":")',
    ),
    Mutant(
        "an IPv6 address that leads nowhere",
        "modules/dimmy/load_balancer.tf",
        "ip_address            = google_compute_global_address.receive_ipv6",
        "ip_address            = google_compute_global_address.receive",
    ),
    Mutant(
        "a budget of all projects",
        "modules/dimmy/budget.tf",
        '    projects = ["projects/${data.google_project.this.number}"]\n',
        "",
    ),
    Mutant(
        "a budget without a quota project",
        "versions.tf",
        "  billing_project = var.budget == null ? null : var.project\n",
        "",
    ),
    Mutant(
        "requests to the API from any address",
        "modules/dimmy/functions.tf",
        '"VPC_EGRESS_ALL_TRAFFIC"',
        '"VPC_EGRESS_PRIVATE_RANGES_ONLY"',
    ),
    Mutant(
        "a NAT with too few ports",
        "modules/dimmy/egress.tf",
        "max_ports_per_vm = 1024",
        "max_ports_per_vm = 128",
    ),
    Mutant(
        "a network without a way to storage",
        "modules/dimmy/egress.tf",
        "  private_ip_google_access = true\n",
        "",
    ),
    Mutant(
        "a load balancer that admits everyone",
        "modules/dimmy/load_balancer.tf",
        'action      = "deny(403)"\n    priority    = 2147483647',
        'action      = "allow"\n    priority    = 2147483647',
    ),
    Mutant(
        "rows without the time at which they were published",
        "modules/dimmy/bigquery.tf",
        "    write_metadata = true\n",
        "",
    ),
    Mutant(
        "a table that can be deleted by accident",
        "modules/dimmy/bigquery.tf",
        "deletion_protection = var.deletion_protection",
        "deletion_protection = false",
    ),
    Mutant(
        "a table without the attributes of messages",
        "modules/dimmy/bigquery.tf",
        '    { name = "attributes", type = "JSON" },\n',
        "",
    ),
    Mutant(
        "a BigQuery subscription before its grant",
        "modules/dimmy/bigquery.tf",
        "  depends_on = [google_bigquery_dataset_iam_member.agent_writes_rows]\n",
        "",
    ),
    Mutant(
        "functions that publish before they may",
        "modules/dimmy/functions.tf",
        "    google_pubsub_topic_iam_member.function_publishes_items,\n",
        "",
    ),
    Mutant(
        "a sink that may not publish",
        "modules/dimmy/bigquery.tf",
        "member  = google_logging_project_sink.event_attempts[0].writer_identity",
        "member  = local._pubsub_agent",
    ),
    Mutant(
        "an upgrade recreates the dead-letter subscriptions",
        "modules/dimmy/dead_letters.tf",
        "moved {\n  from = google_pubsub_subscription.dead_letters\n"
        '  to   = google_pubsub_subscription.dead_letters["resolve"]\n}\n',
        "",
    ),
    Mutant(
        "dead letters of events that can be deleted",
        "modules/dimmy/dead_letters.tf",
        'each.key == "resolve" ? local._deletion_policy : "DELETE"',
        '"DELETE"',
    ),
    Mutant(
        "a filter in which a quotation mark ends the text",
        "modules/dimmy/subscribers.tf",
        'replace(replace(flow_id, "\\\\", "\\\\\\\\"), "\\"", "\\\\\\"")',
        "flow_id",
    ),
    Mutant(
        "a subscriber that could call resolve",
        "modules/dimmy/subscribers.tf",
        'service_account_email = google_service_account.this["notifier"].email',
        'service_account_email = google_service_account.this["pusher"].email',
    ),
    Mutant(
        "an archive that can delete photos",
        "modules/dimmy/storage.tf",
        "roles/storage.objectCreator",
        "roles/storage.objectUser",
    ),
    Mutant(
        "no alert on a subscriber that does not answer",
        "modules/dimmy/alerts.tf",
        "local._item_backlog_alerts, local._photo_alerts)",
        "local._photo_alerts)",
    ),
    Mutant(
        "no alert on refused photos",
        "modules/dimmy/alerts.tf",
        "local._item_backlog_alerts, local._photo_alerts)",
        "local._item_backlog_alerts)",
    ),
    Mutant(
        "an alert on another subscription",
        "modules/dimmy/alerts.tf",
        'pubsub_subscription.dead_letters["resolve"].name',
        "pubsub_subscription.resolve.name",
    ),
    Mutant(
        "an alert without the channels",
        "modules/dimmy/alerts.tf",
        "channel.id], var.alert_channels)",
        "channel.id])",
    ),
    Mutant(
        "incidents that stay open",
        "modules/dimmy/alerts.tf",
        '  alert_strategy {\n    auto_close = "${max(7200, tonumber(trimsuffix(each.value.period, "s")))}s"\n  }\n',
        "",
    ),
    Mutant(
        "a distribution without buckets",
        "modules/dimmy/log_metrics.tf",
        'for_each = lookup(each.value, "value", null) == null ? [] : [each.value.value]',
        "for_each = []",
    ),
    Mutant(
        "an alert with a higher threshold",
        "modules/dimmy/alerts.tf",
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
    Mutant(
        "the root does not pass a variable on",
        "main.tf",
        "log_level = var.log_level\n",
        "",
    ),
    Mutant(
        "the root confuses two variables",
        "main.tf",
        "soft_delete_days = var.soft_delete_days",
        "soft_delete_days = var.old_version_retention_days",
    ),
    Mutant(
        "an upgrade recreates the bucket",
        "moved.tf",
        "moved {\n  from = google_storage_bucket.data\n  to = module.dimmy.google_storage_bucket.data\n}\n",
        "",
    ),
    Mutant(
        "a dashboard with places that the API leaves out",
        "modules/dimmy/dashboard.tf",
        "axis => place if place != 0",
        "axis => place",
    ),
    Mutant(
        "a topic in every region",
        "modules/dimmy/items_topic.tf",
        "  message_storage_policy {\n    allowed_persistence_regions = [var.region]\n  }\n",
        "",
    ),
    Mutant(
        "an address that cannot be taken out",
        "modules/dimmy/alerts.tf",
        "force_delete = true",
        "",
    ),
    Mutant(
        "a replaced function without its invoker",
        "modules/dimmy/functions.tf",
        "    replace_triggered_by = [google_cloudfunctions2_function.this[each.key].id]\n",
        "",
    ),
    Mutant(
        "a replaced bucket without its roles",
        "modules/dimmy/storage.tf",
        "  # A new bucket of the same name has no roles.\n  lifecycle {\n"
        "    replace_triggered_by = [google_storage_bucket.data.id]\n  }\n",
        "",
    ),
    Mutant(
        "an invoker that is replaced with every update",
        "modules/dimmy/functions.tf",
        "this[each.key].id]\n  }",
        "this[each.key]]\n  }",
    ),
    Mutant(
        "an upgrade replaces the secrets",
        "modules/dimmy/secrets.tf",
        "    ignore_changes = [replication]\n",
        "",
    ),
    Mutant(
        "a default of the root",
        "variables.tf",
        'variable "region" {\n  type = string\n  default = null',
        'variable "region" {\n  type = string\n  default = "us-central1"',
    ),
    Mutant(
        "any repository of GitHub deploys",
        "modules/github/main.tf",
        '"assertion.repository == \\"${var.repository}\\"",',
        '"assertion.repository != \\"\\"",',
    ),
    Mutant(
        "any branch deploys",
        "modules/github/main.tf",
        'assertion.ref == \\"refs/heads/${var.branch}\\"',
        'assertion.ref != \\"\\"',
    ),
    Mutant(
        "a pull request deploys",
        "modules/github/main.tf",
        '"${local._jobs}/deploy-${var.environment}"',
        '"${local._jobs}/pull_request"',
    ),
    Mutant(
        "a plan changes the project",
        "modules/github/main.tf",
        '"pubsub.viewer"',
        '"pubsub.editor"',
    ),
    Mutant(
        "a plan reads scans",
        "github.tf",
        "module.dimmy.sources_bucket]",
        "module.dimmy.bucket]",
    ),
)


def main() -> int:
    console = open_console()
    table = Table("mutant", "detected as", box=None, pad_edge=False)
    detected = 0
    with GoogleProvider() as provider, console.status("") as status:
        for mutant in MUTANTS:
            status.update(mutant.name)
            with tempfile.TemporaryDirectory() as folder:
                failure = detect(mutant, provider, Path(folder))
            detected += bool(failure)
            style = None if failure else "red"
            table.add_row(mutant.name, failure or "NOT DETECTED", style=style)
    console.print(table)
    console.print(f"{detected} of {len(MUTANTS)} detected.")
    return 0 if detected == len(MUTANTS) else 1


def apply(mutant: Mutant, original: str) -> str:
    """The content of a file with the mutant, however `terraform fmt` has aligned it.

    Raises:
        ValueError: the file does not contain the text of the mutant, which is out of date.
    """
    original, text = unaligned(original), unaligned(mutant.text)
    if text not in original:
        raise ValueError(f"{mutant.file} does not contain the text of the mutant: {mutant.name}")
    return original.replace(text, mutant.replacement)


def unaligned(text: str) -> str:
    return re.sub(r" +=", " =", text)


def detect(mutant: Mutant, provider: GoogleProvider, folder: Path) -> str:
    """Apply the mutant to a copy and check it; return the beginning of the failure, or nothing."""
    mutated = folder / "infra"
    shutil.copytree(INFRA, mutated)
    file = mutated / mutant.file
    file.write_text(apply(mutant, file.read_text()))
    format_folder(mutated)  # so that its formatting does not give it away
    try:
        check_all(mutated, provider)
    except CheckError as error:
        return " ".join(str(error).split())[:80]
    return ""


if __name__ == "__main__":
    sys.exit(main())
