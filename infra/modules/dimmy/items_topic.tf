# Optional: the topic of items. resolve and reconcile publish every item that they settle. BigQuery, the archive
# of photos and the subscribers of other systems read it; each of them has its own subscription.

locals {
  _items_topic     = "${local._prefix}-item-versions"
  _has_items_topic = var.items_topic || var.bigquery || length(var.item_subscribers) > 0 || var.photos != null
}

# Not protected against deletion, because every item is in the bucket, too: `make republish` sends it again.
# Its name is not that of the former notifications of Cloud Storage, whose messages have another form.
resource "google_pubsub_topic" "item_versions" {
  # checkov:skip=CKV_GCP_83: as for the topic of the events
  count = local._has_items_topic ? 1 : 0

  project      = var.project
  name         = local._items_topic
  kms_key_name = var.kms_key

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_pubsub_topic_iam_member" "function_publishes_items" {
  for_each = toset(local._has_items_topic ? ["reconciler", "resolver"] : [])

  project = var.project
  topic   = google_pubsub_topic.item_versions[0].id
  role    = "roles/pubsub.publisher"
  member  = local._members[each.value]
}
