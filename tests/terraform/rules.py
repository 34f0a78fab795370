"""Rules on the values that Google Cloud accepts, which the schema of the provider does not contain.

They cover the attributes that `infra/` sets. Enumerations and ranges are from the provider's
documentation (https://registry.terraform.io/providers/hashicorp/google/latest/docs) and from the
limits of the products. A path such as `rule.match.versioned_expr` applies to every nested block of
these names.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

Rule = Callable[[Any], str | None]


def one_of(*values: str) -> Rule:
    return lambda value: None if value in values else f"{value!r} is none of {', '.join(values)}"


def number(low: float, high: float) -> Rule:
    return lambda value: (
        None if low <= float(value) <= high else f"{value} is not from {low} to {high}"
    )


def seconds(low: float, high: float) -> Rule:
    """A duration such as "600s"."""

    def rule(value: str) -> str | None:
        if not re.fullmatch(r"\d+(\.\d{1,9})?s", value):
            return f"{value!r} is not a duration such as 600s"
        return number(low, high)(value[:-1])

    return rule


def one_of_powers(low: int, high: int) -> Rule:
    """A power of two."""
    return lambda value: (
        number(low, high)(value)
        if int(value).bit_count() == 1
        else f"{value} is not a power of two"
    )


def matching(pattern: str, example: str) -> Rule:
    return lambda value: (
        None if re.fullmatch(pattern, value) else f"{value!r} does not have the form of {example}"
    )


_DELETION = one_of("DELETE", "PREVENT", "ABANDON")
_MEMBER = matching(
    r"allUsers|(serviceAccount|user|group|domain):[^\s:]+@?[^\s:]*"
    r"|principalSet://iam\.googleapis\.com/projects/\d+/locations/global/workloadIdentityPools/\S+",
    "serviceAccount:...@...",
)
_ROLE = matching(r"roles/[a-z]+\.[A-Za-z.]+|projects/[^/]+/roles/\w+", "roles/pubsub.publisher")
_ACCOUNT = matching(r"[a-z][a-z0-9-]{4,28}[a-z0-9]", "dimmy-prod-receiver (6 to 30 characters)")
_NAME = matching(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", "dimmy-prod-receive (up to 63 characters)")
_PUBSUB_ID = matching(r"(?!goog)[A-Za-z][A-Za-z0-9._~%+-]{2,254}", "dimmy-prod-events")
_URL = matching(r"https://.+", "https://...")

_KEY = matching(
    r"projects/[^/]+/locations/[a-z0-9-]+/keyRings/[\w-]+/cryptoKeys/[\w-]+",
    "projects/keys/locations/europe-west1/keyRings/dimmy/cryptoKeys/scans",
)

_ALIGNER = one_of("ALIGN_DELTA", "ALIGN_RATE", "ALIGN_MAX", "ALIGN_SUM", "ALIGN_PERCENTILE_99")
_REDUCER = one_of("REDUCE_NONE", "REDUCE_MAX", "REDUCE_SUM")

_IAM = {"member": _MEMBER, "role": _ROLE}

# https://cloud.google.com/bigquery/docs/reference/rest/v2/tables#TableFieldSchema
_COLUMN_TYPE = one_of("STRING", "INTEGER", "FLOAT", "BOOLEAN", "TIMESTAMP", "JSON", "RECORD")


def _of_known_types(schema: str) -> str | None:
    problems = (_COLUMN_TYPE(column["type"]) for column in json.loads(schema))
    return next((problem for problem in problems if problem), None)


def at_most_bytes(limit: int) -> Rule:
    return lambda value: (
        None if len(value.encode()) <= limit else f"{value!r} has more than {limit} bytes"
    )


RULES: dict[str, dict[str, Rule]] = {
    "google_artifact_registry_repository": {
        "format": one_of("DOCKER"),
        "cleanup_policies.action": one_of("DELETE", "KEEP"),
    },
    "google_artifact_registry_repository_iam_member": _IAM,
    "google_bigquery_dataset": {"dataset_id": matching(r"\w{1,1024}", "dimmy_prod")},
    "google_bigquery_dataset_iam_member": _IAM,
    "google_bigquery_table": {
        "schema": _of_known_types,
        "table_id": matching(r"\w{1,1024}", "item_versions"),
        "time_partitioning.type": one_of("DAY", "HOUR", "MONTH", "YEAR"),
    },
    "google_billing_budget": {
        "amount.specified_amount.currency_code": matching(r"[A-Z]{3}", "EUR"),
        "amount.specified_amount.units": matching(r"[1-9]\d*", "300"),
        "billing_account": matching(r"([0-9A-F]{6}-){2}[0-9A-F]{6}", "012345-6789AB-CDEF01"),
        "budget_filter.calendar_period": one_of("MONTH", "QUARTER", "YEAR"),
        "budget_filter.projects": matching(r"projects/\d+", "projects/123456789012"),
        "display_name": matching(r".{1,60}", "Dimmy, prod (up to 60 characters)"),
        "threshold_rules.spend_basis": one_of("CURRENT_SPEND", "FORECASTED_SPEND"),
    },
    "google_cloud_run_service_iam_member": _IAM,
    "google_cloud_scheduler_job": {
        "attempt_deadline": seconds(15, 1800),
        "http_target.http_method": one_of("POST", "GET", "HEAD", "PUT", "DELETE", "PATCH"),
        "retry_config.retry_count": number(0, 5),
        "schedule": matching(r"\S+( \S+){4}", "17 * * * *"),
    },
    "google_cloudfunctions2_function": {
        "build_config.entry_point": one_of("archive", "receive", "resolve", "reconcile"),
        "build_config.runtime": one_of("python311", "python312", "python313", "python314"),
        "name": _NAME,
        "service_config.direct_vpc_egress": one_of(
            "VPC_EGRESS_ALL_TRAFFIC", "VPC_EGRESS_PRIVATE_RANGES_ONLY"
        ),
        "service_config.available_cpu": number(0.08, 8),
        "service_config.available_memory": matching(r"\d+(Mi|Gi)", "512Mi"),
        "service_config.ingress_settings": one_of(
            "ALLOW_ALL", "ALLOW_INTERNAL_ONLY", "ALLOW_INTERNAL_AND_GCLB"
        ),
        "service_config.max_instance_count": number(1, 1000),
        "service_config.max_instance_request_concurrency": number(1, 1000),
        "service_config.min_instance_count": number(0, 1000),
        "service_config.timeout_seconds": number(1, 3600),
        "service_config.secret_environment_variables.version": matching(r"latest|\d+", "7"),
    },
    "google_compute_backend_service": {
        "load_balancing_scheme": one_of(
            "EXTERNAL", "EXTERNAL_MANAGED", "INTERNAL_MANAGED", "INTERNAL_SELF_MANAGED"
        ),
        "protocol": one_of("HTTP", "HTTPS", "HTTP2", "TCP", "SSL", "UDP", "GRPC"),
    },
    "google_compute_global_address": {"ip_version": one_of("IPV4", "IPV6")},
    "google_compute_global_forwarding_rule": {
        "ip_protocol": one_of("TCP"),
        "load_balancing_scheme": one_of("EXTERNAL", "EXTERNAL_MANAGED"),
        "port_range": matching(r"443(-443)?", "443"),
    },
    "google_compute_region_network_endpoint_group": {
        "network_endpoint_type": one_of("SERVERLESS", "PRIVATE_SERVICE_CONNECT"),
    },
    "google_compute_router_nat": {
        "log_config.filter": one_of("ERRORS_ONLY", "TRANSLATIONS_ONLY", "ALL"),
        "max_ports_per_vm": one_of_powers(64, 65_536),
        "min_ports_per_vm": one_of_powers(32, 32_768),
        "nat_ip_allocate_option": one_of("MANUAL_ONLY", "AUTO_ONLY"),
        "source_subnetwork_ip_ranges_to_nat": one_of(
            "ALL_SUBNETWORKS_ALL_IP_RANGES",
            "ALL_SUBNETWORKS_ALL_PRIMARY_IP_RANGES",
            "LIST_OF_SUBNETWORKS",
        ),
    },
    "google_compute_security_policy": {
        "rule.action": matching(
            r"allow|deny\((403|404|502)\)|throttle|rate_based_ban", "deny(403)"
        ),
        "rule.match.versioned_expr": one_of("SRC_IPS_V1"),
        "rule.priority": number(0, 2**31 - 1),
        "type": one_of("CLOUD_ARMOR", "CLOUD_ARMOR_EDGE"),
    },
    "google_compute_subnetwork": {"name": _NAME},
    "google_compute_ssl_policy": {
        "min_tls_version": one_of("TLS_1_0", "TLS_1_1", "TLS_1_2"),
        "profile": one_of("COMPATIBLE", "MODERN", "RESTRICTED"),
    },
    "google_kms_crypto_key_iam_member": _IAM | {"crypto_key_id": _KEY},
    "google_logging_metric": {
        "metric_descriptor.metric_kind": one_of("DELTA"),
        "metric_descriptor.value_type": one_of("INT64", "DISTRIBUTION"),
        "name": matching(r"[A-Za-z0-9_.,+!*',()%/-]{1,100}", "dimmy-prod-webhooks"),
    },
    "google_logging_project_sink": {
        "destination": matching(
            r"pubsub\.googleapis\.com/projects/[^/]+/topics/[^/]+",
            "pubsub.googleapis.com/projects/warehouse-1/topics/dimmy-prod-event-attempts",
        ),
        "name": matching(r"[A-Za-z0-9_.-]{1,100}", "dimmy-prod-event-attempts"),
    },
    "google_monitoring_alert_policy": {
        "alert_strategy.auto_close": seconds(1800, 7 * 86_400),
        "combiner": one_of("AND", "OR", "AND_WITH_MATCHING_RESOURCE"),
        "conditions.condition_absent.aggregations.cross_series_reducer": _REDUCER,
        "conditions.condition_absent.aggregations.per_series_aligner": _ALIGNER,
        "conditions.condition_absent.duration": seconds(120, 84_600),
        "conditions.condition_threshold.aggregations.alignment_period": seconds(60, 90_000),
        "conditions.condition_threshold.aggregations.cross_series_reducer": _REDUCER,
        "conditions.condition_threshold.aggregations.per_series_aligner": _ALIGNER,
        "conditions.condition_threshold.comparison": one_of("COMPARISON_GT", "COMPARISON_LT"),
        "conditions.condition_threshold.duration": seconds(0, 84_600),
        "documentation.mime_type": one_of("text/markdown"),
        "severity": one_of("CRITICAL", "ERROR", "WARNING"),
    },
    "google_monitoring_notification_channel": {
        "type": one_of("email", "sms", "slack", "pagerduty", "webhook_tokenauth", "pubsub")
    },
    "google_project_iam_member": _IAM,
    "google_project_service": {
        "service": matching(r"[a-z]+\.googleapis\.com", "run.googleapis.com")
    },
    "google_pubsub_subscription": {
        "ack_deadline_seconds": number(10, 600),
        # https://github.com/hashicorp/terraform-provider-google/issues/16479
        "bigquery_config.table": matching(
            r"[a-z][a-z0-9-]{4,28}[a-z0-9]\.\w+\.\w+", "warehouse-1.dimmy_prod.item_versions"
        ),
        "dead_letter_policy.max_delivery_attempts": number(5, 100),
        "filter": at_most_bytes(256),
        "message_retention_duration": seconds(600, 31 * 86_400),
        "name": _PUBSUB_ID,
        "push_config.push_endpoint": _URL,
        "retry_policy.maximum_backoff": seconds(0, 600),
        "retry_policy.minimum_backoff": seconds(0, 600),
    },
    "google_pubsub_subscription_iam_member": _IAM,
    "google_pubsub_topic": {
        "message_retention_duration": seconds(600, 31 * 86_400),
        "name": _PUBSUB_ID,
    },
    "google_pubsub_topic_iam_member": _IAM,
    "google_secret_manager_secret": {"secret_id": matching(r"[\w-]{1,255}", "dimmy-prod-api-key")},
    "google_secret_manager_secret_iam_member": _IAM,
    "google_service_account_iam_member": _IAM,
    "google_service_account": {"account_id": _ACCOUNT},
    "google_storage_bucket": {
        "lifecycle_rule.action.type": one_of(
            "Delete", "SetStorageClass", "AbortIncompleteMultipartUpload"
        ),
        "lifecycle_rule.condition.with_state": one_of("LIVE", "ARCHIVED", "ANY"),
        "name": matching(r"[a-z0-9][a-z0-9._-]{1,61}[a-z0-9]", "my-project-dimmy-prod-data"),
        "public_access_prevention": one_of("enforced", "inherited"),
        "soft_delete_policy.retention_duration_seconds": (
            lambda value: None if value == 0 else number(7 * 86_400, 90 * 86_400)(value)
        ),
    },
    "google_storage_bucket_iam_member": _IAM,
}


def find_problems(resource_type: str, config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """The problems of a resource's configuration: the path of each attribute, and what is wrong.

    Attributes that are not set or not known yet are skipped.
    """
    rules = RULES.get(resource_type, {}) | {"deletion_policy": _DELETION}
    for path, rule in rules.items():
        for value in _values(config, path.split(".")):
            if problem := rule(value):
                yield path, problem


def _values(config: Any, path: list[str]) -> Iterator[Any]:
    if config is None:
        return
    if isinstance(config, list):
        for entry in config:
            yield from _values(entry, path)
    elif path:
        yield from _values(config.get(path[0]), path[1:])
    else:
        yield config
