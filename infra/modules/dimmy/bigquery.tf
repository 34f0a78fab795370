# Optional: SQL over items and events, seconds after the scan. Pub/Sub writes every message as a row into a
# table, and a view shows the newest one of each item or event. So no schema has to agree with the code, and
# every version of an item is kept.

locals {
  # The columns of a BigQuery subscription without a schema: https://cloud.google.com/pubsub/docs/bigquery
  _message_columns = [
    { name = "subscription_name", type = "STRING" },
    { name = "message_id", type = "STRING" },
    { name = "publish_time", type = "TIMESTAMP" },
    { name = "data", type = "JSON" },
    { name = "attributes", type = "JSON" },
  ]

  _tables = {
    item_versions  = "Every message of an item: its versions, also repeatedly and in any order"
    event_attempts = "The log entries in which resolve reports its attempts at events"
  }
  _views = {
    items  = { table = "item_versions", description = "The newest version of every item" }
    events = { table = "event_attempts", description = "Every event, in the state of its latest attempt" }
  }

  _bigquery_subscriptions = { for table in var.bigquery ? keys(local._tables) : [] : "${replace(table, "_", "-")}-bigquery" => table }

  _bigquery_topics = var.bigquery ? {
    item_versions  = google_pubsub_topic.item_versions[0].id
    event_attempts = google_pubsub_topic.event_attempts[0].id
  } : {}
}

resource "google_bigquery_dataset" "scans" {
  # checkov:skip=CKV_GCP_81: optional, with kms_key
  count = var.bigquery ? 1 : 0

  project                    = var.project
  dataset_id                 = replace(local._prefix, "-", "_")
  location                   = var.region
  description                = "Dimmy's scans"
  delete_contents_on_destroy = !var.deletion_protection
  deletion_policy            = local._deletion_policy

  dynamic "default_encryption_configuration" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_bigquery_table" "messages" {
  # checkov:skip=CKV_GCP_80: optional, with kms_key
  # checkov:skip=CKV_GCP_121: optional, with deletion_protection
  for_each = var.bigquery ? local._tables : {}

  project             = var.project
  dataset_id          = google_bigquery_dataset.scans[0].dataset_id
  table_id            = each.key
  description         = each.value
  schema              = jsonencode(local._message_columns)
  deletion_protection = var.deletion_protection
  deletion_policy     = local._deletion_policy

  time_partitioning {
    type  = "DAY"
    field = "publish_time"
  }

  dynamic "encryption_configuration" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      kms_key_name = encryption_configuration.value
    }
  }

  # As everywhere, what exists keeps its encryption. A new dataset of the same name has no tables.
  lifecycle {
    ignore_changes       = [encryption_configuration]
    replace_triggered_by = [google_bigquery_dataset.scans[0].id]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent]
}

resource "google_bigquery_table" "view" {
  # checkov:skip=CKV_GCP_80: a view holds no data
  # checkov:skip=CKV_GCP_121: a view holds no data
  for_each = var.bigquery ? local._views : {}

  project             = var.project
  dataset_id          = google_bigquery_dataset.scans[0].dataset_id
  table_id            = each.key
  description         = each.value.description
  deletion_protection = false

  view {
    query = templatefile("${path.module}/views/${each.key}.sql", {
      table = "${var.project}.${google_bigquery_dataset.scans[0].dataset_id}.${google_bigquery_table.messages[each.value.table].table_id}"
    })
    use_legacy_sql = false
  }

  lifecycle {
    replace_triggered_by = [google_bigquery_dataset.scans[0].id]
  }
}

# https://cloud.google.com/pubsub/docs/create-bigquery-subscription: the role also reads the table's columns.
resource "google_bigquery_dataset_iam_member" "agent_writes_rows" {
  count = var.bigquery ? 1 : 0

  project    = var.project
  dataset_id = google_bigquery_dataset.scans[0].dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = local._pubsub_agent

  lifecycle {
    replace_triggered_by = [google_bigquery_dataset.scans[0].id]
  }
}

resource "google_pubsub_subscription" "bigquery" {
  for_each = local._bigquery_subscriptions

  project                    = var.project
  name                       = "${local._prefix}-${each.key}"
  topic                      = local._bigquery_topics[each.value]
  message_retention_duration = "${local._longest_retention_days * 86400}s"

  bigquery_config {
    table          = "${var.project}.${google_bigquery_dataset.scans[0].dataset_id}.${google_bigquery_table.messages[each.value].table_id}"
    write_metadata = true
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[each.key].id
    max_delivery_attempts = 100
  }

  expiration_policy {
    ttl = ""
  }

  # Pub/Sub refuses a subscription that it could not write for.
  depends_on = [google_bigquery_dataset_iam_member.agent_writes_rows]
}

# Cloud Logging could write into the dataset itself. But then a table exists only after the first entry, and a
# column after the first entry that has the field, so there could be no view at deployment.
resource "google_logging_project_sink" "event_attempts" {
  count = var.bigquery ? 1 : 0

  project                = var.project
  name                   = "${local._prefix}-event-attempts"
  description            = "Attempts of resolve at events, for BigQuery"
  destination            = "pubsub.googleapis.com/projects/${var.project}/topics/${google_pubsub_topic.event_attempts[0].name}"
  filter                 = local._log_metrics.attempts.filter
  unique_writer_identity = true
}

resource "google_pubsub_topic" "event_attempts" {
  # checkov:skip=CKV_GCP_83: as for the topic of the events
  count = var.bigquery ? 1 : 0

  project      = var.project
  name         = "${local._prefix}-event-attempts"
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_pubsub_topic_iam_member" "sink_publishes_attempts" {
  count = var.bigquery ? 1 : 0

  project = var.project
  topic   = google_pubsub_topic.event_attempts[0].id
  role    = "roles/pubsub.publisher"
  member  = google_logging_project_sink.event_attempts[0].writer_identity
}
