# Optional: a topic with a message for each new or newer item, for a WMS, an ERP or other subscribers.

resource "google_pubsub_topic" "items" {
  # checkov:skip=CKV_GCP_83: as for the topic of the events
  count = var.item_notifications ? 1 : 0

  project      = var.project
  name         = "${local._prefix}-items"
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

data "google_storage_project_service_account" "this" {
  count = var.item_notifications || length(local._kms_keys) > 0 ? 1 : 0

  project = var.project
}

resource "google_pubsub_topic_iam_member" "storage_publishes_items" {
  count = var.item_notifications ? 1 : 0

  project = var.project
  topic   = google_pubsub_topic.items[0].id
  role    = "roles/pubsub.publisher"
  member  = "serviceAccount:${data.google_storage_project_service_account.this[0].email_address}"
}

resource "google_storage_notification" "items" {
  count = var.item_notifications ? 1 : 0

  bucket             = google_storage_bucket.data.name
  object_name_prefix = "items/"
  event_types        = ["OBJECT_FINALIZE"]
  payload_format     = "JSON_API_V1"
  topic              = google_pubsub_topic.items[0].id

  depends_on = [google_pubsub_topic_iam_member.storage_publishes_items]
}
