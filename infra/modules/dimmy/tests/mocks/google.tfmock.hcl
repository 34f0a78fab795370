# Values that Google assigns when a resource is created, fixed for the tests.

mock_data "google_project" {
  defaults = {
    number = "123456789012"
  }
}

mock_data "google_bigquery_default_service_account" {
  defaults = {
    email = "bq-123456789012@bigquery-encryption.iam.gserviceaccount.com"
  }
}

mock_data "google_storage_project_service_account" {
  defaults = {
    email_address = "service-123456789012@gs-project-accounts.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["archiver"]
  values = {
    email  = "archiver@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/archiver@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/archiver@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:archiver@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["builder"]
  values = {
    email  = "builder@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/builder@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/builder@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:builder@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["notifier"]
  values = {
    email  = "notifier@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/notifier@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/notifier@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:notifier@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["pusher"]
  values = {
    email  = "pusher@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/pusher@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/pusher@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:pusher@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["receiver"]
  values = {
    email  = "receiver@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/receiver@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/receiver@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:receiver@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["reconciler"]
  values = {
    email  = "reconciler@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/reconciler@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/reconciler@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:reconciler@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["resolver"]
  values = {
    email  = "resolver@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/resolver@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/resolver@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:resolver@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_service_account.this["scheduler"]
  values = {
    email  = "scheduler@warehouse-1.iam.gserviceaccount.com"
    id     = "projects/warehouse-1/serviceAccounts/scheduler@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/scheduler@warehouse-1.iam.gserviceaccount.com"
    member = "serviceAccount:scheduler@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target = google_cloudfunctions2_function.this["archive"]
  values = {
    service_config = {
      uri = "https://archive.a.run.app"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.this["receive"]
  values = {
    service_config = {
      uri = "https://receive.a.run.app"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.this["resolve"]
  values = {
    service_config = {
      uri = "https://resolve.a.run.app"
    }
  }
}

override_resource {
  target = google_cloudfunctions2_function.this["reconcile"]
  values = {
    service_config = {
      uri = "https://reconcile.a.run.app"
    }
  }
}

override_resource {
  target = google_pubsub_topic.events
  values = { id = "projects/warehouse-1/topics/dimmy-test-events" }
}

override_resource {
  target = google_pubsub_topic.item_versions[0]
  values = { id = "projects/warehouse-1/topics/dimmy-test-item-versions" }
}

override_resource {
  target = google_pubsub_topic.event_attempts[0]
  values = { id = "projects/warehouse-1/topics/dimmy-test-event-attempts" }
}

override_resource {
  target = google_pubsub_subscription.resolve
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-resolve" }
}

override_resource {
  target = google_pubsub_subscription.bigquery["item-versions-bigquery"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-item-versions-bigquery" }
}

override_resource {
  target = google_pubsub_subscription.bigquery["event-attempts-bigquery"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-event-attempts-bigquery" }
}

override_resource {
  target = google_pubsub_subscription.archive["archive"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-archive" }
}

override_resource {
  target = google_pubsub_subscription.subscriber["subscriber-wms"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-subscriber-wms" }
}

override_resource {
  target = google_pubsub_topic.dead_letters["resolve"]
  values = { id = "projects/warehouse-1/topics/dimmy-test-dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters["resolve"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-dead-letters" }
}

override_resource {
  target = google_pubsub_topic.dead_letters["item-versions-bigquery"]
  values = { id = "projects/warehouse-1/topics/dimmy-test-item-versions-bigquery-dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters["item-versions-bigquery"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-item-versions-bigquery-dead-letters" }
}

override_resource {
  target = google_pubsub_topic.dead_letters["event-attempts-bigquery"]
  values = { id = "projects/warehouse-1/topics/dimmy-test-event-attempts-bigquery-dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters["event-attempts-bigquery"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-event-attempts-bigquery-dead-letters" }
}

override_resource {
  target = google_pubsub_topic.dead_letters["archive"]
  values = { id = "projects/warehouse-1/topics/dimmy-test-archive-dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters["archive"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-archive-dead-letters" }
}

override_resource {
  target = google_pubsub_topic.dead_letters["subscriber-wms"]
  values = { id = "projects/warehouse-1/topics/dimmy-test-subscriber-wms-dead-letters" }
}

override_resource {
  target = google_pubsub_subscription.dead_letters["subscriber-wms"]
  values = { id = "projects/warehouse-1/subscriptions/dimmy-test-subscriber-wms-dead-letters" }
}

override_resource {
  target = google_logging_project_sink.event_attempts[0]
  values = { writer_identity = "serviceAccount:service-123456789012@gcp-sa-logging.iam.gserviceaccount.com" }
}

override_resource {
  target = google_secret_manager_secret.this["api_key"]
  values = { id = "projects/warehouse-1/secrets/dimmy-test-api-key" }
}

override_resource {
  target = google_secret_manager_secret.this["signing_secrets"]
  values = { id = "projects/warehouse-1/secrets/dimmy-test-signing-secrets" }
}

override_resource {
  target = google_artifact_registry_repository.images
  values = {
    id   = "projects/warehouse-1/locations/europe-west1/repositories/dimmy-test-functions"
    name = "dimmy-test-functions"
  }
}

override_resource {
  target = google_compute_global_address.receive["this"]
  values = { id = "the-ipv4-address" }
}

override_resource {
  target = google_compute_global_address.receive_ipv6["this"]
  values = { id = "the-ipv6-address" }
}

override_resource {
  target = google_compute_target_https_proxy.receive["this"]
  values = { id = "the-proxy" }
}

override_resource {
  target = google_monitoring_notification_channel.email["warehouse-it@example.com"]
  values = { id = "the-email-channel" }
}

override_resource {
  target = google_compute_network.egress["this"]
  values = { id = "the-egress-network" }
}

override_resource {
  target = google_compute_address.egress["this"]
  values = {
    id      = "the-egress-address"
    address = "203.0.113.10"
  }
}
