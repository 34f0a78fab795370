# Optional: the function `archive` stores the photos of every item that is published.

locals {
  _archives_photos = var.photos == "archive"

  _archive_subscriptions = { for name in local._archives_photos ? ["archive"] : [] : name => name }

  _archive_function_url = local._archives_photos ? google_cloudfunctions2_function.this["archive"].service_config[0].uri : null
}

# A photo may still be uploading when its item is published: then archive refuses the message, and Pub/Sub
# delivers it again. The pauses grow from 10 s to 600 s: 10, 20, 40, 80, 160 and 320 s, and then 93 times
# 600 s. So 100 attempts take at least 15.7 hours before the message becomes a dead letter.
resource "google_pubsub_subscription" "archive" {
  for_each = local._archive_subscriptions

  project                    = var.project
  name                       = "${local._prefix}-${each.key}"
  topic                      = google_pubsub_topic.item_versions[0].id
  ack_deadline_seconds       = local._ack_deadline_seconds
  message_retention_duration = "${local._longest_retention_days * 86400}s"

  push_config {
    push_endpoint = local._archive_function_url

    oidc_token {
      service_account_email = google_service_account.this["pusher"].email
      audience              = local._archive_function_url
    }
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
}
