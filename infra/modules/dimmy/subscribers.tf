# Optional: pushes every item to other systems, such as a WMS. A subscriber answers 2xx when it has stored the item.

locals {
  _subscriber_subscriptions = { for name in keys(var.item_subscribers) : "subscriber-${name}" => name }

  # A filter compares text literally, within quotation marks:
  # https://cloud.google.com/pubsub/docs/subscription-message-filter
  _subscriber_filters = {
    for name, subscriber in var.item_subscribers : name => join(" OR ", [
      for flow_id in subscriber.flow_ids : "attributes.flow-id = \"${replace(replace(flow_id, "\\", "\\\\"), "\"", "\\\"")}\""
    ])
  }

  _pushes_with_token = anytrue([for subscriber in var.item_subscribers : subscriber.audience != null])
}

resource "google_pubsub_subscription" "subscriber" {
  for_each = local._subscriber_subscriptions

  project                    = var.project
  name                       = "${local._prefix}-${each.key}"
  topic                      = google_pubsub_topic.item_versions[0].id
  filter                     = local._subscriber_filters[each.value] == "" ? null : local._subscriber_filters[each.value]
  ack_deadline_seconds       = var.item_subscribers[each.value].ack_deadline_seconds
  message_retention_duration = "${local._longest_retention_days * 86400}s"

  push_config {
    push_endpoint = var.item_subscribers[each.value].endpoint

    # Not as the pusher, which may call resolve: a subscriber could use its token there, if it chose the audience.
    dynamic "oidc_token" {
      for_each = var.item_subscribers[each.value].audience == null ? [] : [var.item_subscribers[each.value].audience]

      content {
        service_account_email = google_service_account.this["notifier"].email
        audience              = oidc_token.value
      }
    }
  }

  retry_policy {
    minimum_backoff = "${var.item_subscribers[each.value].min_backoff_seconds}s"
    maximum_backoff = "${var.item_subscribers[each.value].max_backoff_seconds}s"
  }

  dead_letter_policy {
    dead_letter_topic     = google_pubsub_topic.dead_letters[each.key].id
    max_delivery_attempts = var.item_subscribers[each.value].max_delivery_attempts
  }

  expiration_policy {
    ttl = ""
  }
}

# As for the pusher.
resource "google_service_account_iam_member" "agent_signs_as_notifier" {
  count = local._pushes_with_token ? 1 : 0

  service_account_id = google_service_account.this["notifier"].name
  role               = "roles/iam.serviceAccountOpenIdTokenCreator"
  member             = local._pubsub_agent
}
