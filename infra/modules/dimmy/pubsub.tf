# receive publishes events to the topic `events`. The subscription `resolve` pushes them to the function
# of that name. After the last failed attempt an event becomes a dead letter (dead_letters.tf).

resource "google_pubsub_topic" "events" {
  # checkov:skip=CKV_GCP_83: optional, with kms_key
  project         = var.project
  name            = "${local._prefix}-events"
  kms_key_name    = var.kms_key
  deletion_policy = local._deletion_policy

  # Without this, messages are stored in any region that the organisation allows.
  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_pubsub_subscription" "resolve" {
  project                    = var.project
  name                       = "${local._prefix}-resolve"
  topic                      = google_pubsub_topic.events.id
  ack_deadline_seconds       = local._ack_deadline_seconds
  message_retention_duration = "${var.event_retention_days * 86400}s"
  deletion_policy            = local._deletion_policy

  push_config {
    push_endpoint = local._resolve_url

    oidc_token {
      service_account_email = google_service_account.this["pusher"].email
      audience              = local._resolve_url
    }
  }

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "600s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters["resolve"].id
    max_delivery_attempts = var.max_delivery_attempts
  }

  # Never expires. By default a subscription without traffic for 31 days is deleted.
  expiration_policy {
    ttl = ""
  }
}

resource "google_pubsub_topic_iam_member" "receiver_publishes_events" {
  project = var.project
  topic   = google_pubsub_topic.events.id
  role    = "roles/pubsub.publisher"
  member  = local._members["receiver"]
}

# In projects created before April 2021, Pub/Sub needs this role to sign the token of a push.
resource "google_service_account_iam_member" "agent_signs_as_pusher" {
  service_account_id = google_service_account.this["pusher"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local._pubsub_agent
}

locals {
  _resolve_url = google_cloudfunctions2_function.this["resolve"].service_config[0].uri
}
