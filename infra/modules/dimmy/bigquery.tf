# Optional: SQL over the objects in the bucket, without copying them. Each object is one line of JSON.
# An external table reads each line as one column of text, so new fields of Dimmy need no change here;
# the views extract the known fields. Queries need permission to read the bucket, too.

locals {
  _lines = {
    item_lines  = { folder = "items", column = "item", description = "Every stored item, as the API gives it" }
    event_lines = { folder = "events", column = "receipt", description = "The receipt of every event" }
  }
  _views = {
    items  = { lines = "item_lines", description = "One row per item; lengths and weights in the unit beside them" }
    events = { lines = "event_lines", description = "One row per event, in the state of its latest attempt" }
  }
}

resource "google_bigquery_dataset" "scans" {
  # checkov:skip=CKV_GCP_81: optional, with kms_key
  count = var.bigquery ? 1 : 0

  project     = var.project
  dataset_id  = replace(local._prefix, "-", "_")
  location    = var.region
  description = "Dimmy's scans, read from gs://${google_storage_bucket.data.name}"

  dynamic "default_encryption_configuration" {
    for_each = var.kms_key == null ? [] : [var.kms_key]

    content {
      kms_key_name = default_encryption_configuration.value
    }
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_bigquery_table" "lines" {
  # checkov:skip=CKV_GCP_80: it holds no data, it reads the bucket
  # checkov:skip=CKV_GCP_121: it holds no data, so nothing is lost when it is deleted
  for_each = var.bigquery ? local._lines : {}

  project             = var.project
  dataset_id          = google_bigquery_dataset.scans[0].dataset_id
  table_id            = each.key
  description         = each.value.description
  deletion_protection = false

  external_data_configuration {
    autodetect    = false
    source_format = "CSV"
    source_uris   = ["gs://${google_storage_bucket.data.name}/${each.value.folder}/*.json"]
    schema        = jsonencode([{ name = each.value.column, type = "STRING" }])

    # JSON never contains the control character U+0001, so no line is split; JSON's quotes must not be
    # read as those of CSV.
    csv_options {
      encoding        = "UTF-8"
      field_delimiter = "\u0001"
      quote           = ""
    }
  }
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
      lines = "${var.project}.${google_bigquery_dataset.scans[0].dataset_id}.${each.value.lines}"
    })
    use_legacy_sql = false
  }

  depends_on = [google_bigquery_table.lines]
}
