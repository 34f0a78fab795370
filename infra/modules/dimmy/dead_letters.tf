# What a subscription cannot deliver in the end is forwarded to a topic of its own. There a subscription that
# never expires keeps it for as long as Pub/Sub can: a topic without a subscription drops its messages.

locals {
  # Every subscription that has a dead-letter policy, by its name without the prefix.
  _dead_letter_sources = merge(
    { resolve = google_pubsub_subscription.resolve.id },
    { for name, subscription in google_pubsub_subscription.bigquery : name => subscription.id },
    { for name, subscription in google_pubsub_subscription.archive : name => subscription.id },
    { for name, subscription in google_pubsub_subscription.subscriber : name => subscription.id },
  )

  # The same names, from the variables alone: the subscriptions refer to the topics.
  _dead_letter_names = merge(
    { resolve = "${local._prefix}-dead-letters" },
    { for name in keys(local._item_subscriptions) : name => "${local._prefix}-${name}-dead-letters" },
  )

  # The subscriptions that are optional, by their names without the prefix.
  _item_subscriptions = merge(local._bigquery_subscriptions, local._archive_subscriptions, local._subscriber_subscriptions)

  _longest_retention_days = 31
}

# Those of resolve hold events that are nowhere else.
resource "google_pubsub_topic" "dead_letters" {
  # checkov:skip=CKV_GCP_83: as for the topic of the events
  for_each = local._dead_letter_names

  project         = var.project
  name            = each.value
  kms_key_name    = var.kms_key
  deletion_policy = each.key == "resolve" ? local._deletion_policy : "DELETE"

  message_storage_policy {
    allowed_persistence_regions = [var.region]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

# `make redrive` lists resolve's dead letters and gives their subscription a push endpoint for a while, hence
# the ack deadline. The backoff is short so that a message that fails again is soon visible.
resource "google_pubsub_subscription" "dead_letters" {
  for_each = local._dead_letter_names

  project                    = var.project
  name                       = each.value
  topic                      = google_pubsub_topic.dead_letters[each.key].id
  ack_deadline_seconds       = local._ack_deadline_seconds
  message_retention_duration = "${local._longest_retention_days * 86400}s"
  deletion_policy            = each.key == "resolve" ? local._deletion_policy : "DELETE"

  retry_policy {
    minimum_backoff = "10s"
    maximum_backoff = "60s"
  }

  # Never expires. By default a subscription without traffic for 31 days is deleted.
  expiration_policy {
    ttl = ""
  }
}

# Without this role and the next one, Pub/Sub silently fails to forward dead letters.
resource "google_pubsub_topic_iam_member" "agent_publishes_dead_letters" {
  for_each = local._dead_letter_names

  project = var.project
  topic   = google_pubsub_topic.dead_letters[each.key].id
  role    = "roles/pubsub.publisher"
  member  = local._pubsub_agent
}

resource "google_pubsub_subscription_iam_member" "agent_takes_dead_letters" {
  for_each = local._dead_letter_names

  project      = var.project
  subscription = local._dead_letter_sources[each.key]
  role         = "roles/pubsub.subscriber"
  member       = local._pubsub_agent
}

# There was only one topic of dead letters.

moved {
  from = google_pubsub_topic.dead_letters
  to   = google_pubsub_topic.dead_letters["resolve"]
}

moved {
  from = google_pubsub_subscription.dead_letters
  to   = google_pubsub_subscription.dead_letters["resolve"]
}

moved {
  from = google_pubsub_topic_iam_member.agent_publishes_dead_letters
  to   = google_pubsub_topic_iam_member.agent_publishes_dead_letters["resolve"]
}

moved {
  from = google_pubsub_subscription_iam_member.agent_takes_dead_letters
  to   = google_pubsub_subscription_iam_member.agent_takes_dead_letters["resolve"]
}
