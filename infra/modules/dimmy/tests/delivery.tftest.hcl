# The delivery of an event: subscriptions, retries, dead letters, timeouts, schedules and storage.

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "tests/archive.zip"
}

run "delivery" {
  command = plan

  assert {
    condition     = google_pubsub_subscription.resolve.topic == "projects/warehouse-1/topics/dimmy-test-events"
    error_message = "resolve subscribes to the topic of the events."
  }

  assert {
    condition = (
      google_pubsub_subscription.resolve.push_config[0].push_endpoint == "https://resolve.a.run.app"
      && google_pubsub_subscription.resolve.push_config[0].oidc_token[0].audience == "https://resolve.a.run.app"
      && google_pubsub_subscription.resolve.push_config[0].oidc_token[0].service_account_email == "pusher@warehouse-1.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub pushes to resolve, as the pusher, with a token for resolve."
  }

  assert {
    condition = (
      google_pubsub_subscription.resolve.dead_letter_policy[0].dead_letter_topic == "projects/warehouse-1/topics/dimmy-test-dead-letters"
      && google_pubsub_subscription.resolve.dead_letter_policy[0].max_delivery_attempts == 100
    )
    error_message = "After 100 failed attempts an event becomes a dead letter."
  }

  assert {
    condition = alltrue([
      for subscription in [google_pubsub_subscription.resolve, google_pubsub_subscription.dead_letters] : (
        subscription.ack_deadline_seconds == 600
        && subscription.message_retention_duration == "2678400s"
        && subscription.expiration_policy[0].ttl == ""
        && subscription.retry_policy[0].minimum_backoff == "10s"
      )
    ])
    error_message = "Both subscriptions wait 600 s for an answer, back off, keep messages for 31 days, and never expire."
  }

  assert {
    condition     = google_pubsub_subscription.resolve.retry_policy[0].maximum_backoff == "600s" && google_pubsub_subscription.dead_letters.retry_policy[0].maximum_backoff == "60s"
    error_message = "An event waits at most 10 minutes for its next attempt, a dead letter at most one."
  }

  assert {
    condition = (
      google_pubsub_subscription.dead_letters.topic == "projects/warehouse-1/topics/dimmy-test-dead-letters"
      && length(google_pubsub_subscription.dead_letters.push_config) == 0
      && length(google_pubsub_subscription.dead_letters.dead_letter_policy) == 0
    )
    error_message = "Dead letters can be pulled and are not forwarded again."
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.agent_publishes_dead_letters.topic == "projects/warehouse-1/topics/dimmy-test-dead-letters"
      && google_pubsub_topic_iam_member.agent_publishes_dead_letters.role == "roles/pubsub.publisher"
      && google_pubsub_topic_iam_member.agent_publishes_dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters.subscription == "projects/warehouse-1/subscriptions/dimmy-test-resolve"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters.role == "roles/pubsub.subscriber"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters.member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub's service agent may forward dead letters: subscribe to resolve's messages and publish them."
  }

  assert {
    condition = (
      tonumber(google_cloudfunctions2_function.this["resolve"].service_config[0].environment_variables["ATTEMPT_SECONDS"]) + 30
      <= google_cloudfunctions2_function.this["resolve"].service_config[0].timeout_seconds
      && google_cloudfunctions2_function.this["resolve"].service_config[0].timeout_seconds
      < google_pubsub_subscription.resolve.ack_deadline_seconds
    )
    error_message = "An attempt ends 30 s before its function times out, which is before Pub/Sub delivers the message again."
  }

  assert {
    condition = alltrue([
      for name in ["resolve", "reconcile"] : (
        google_cloudfunctions2_function.this[name].service_config[0].environment_variables["THREADS"]
        == tostring(google_cloudfunctions2_function.this[name].service_config[0].max_instance_request_concurrency)
      )
    ])
    error_message = "An instance has a thread for each concurrent request."
  }

  assert {
    condition = {
      for name, function in google_cloudfunctions2_function.this : name => join(" ", [
        function.build_config[0].entry_point,
        function.service_config[0].available_cpu,
        function.service_config[0].available_memory,
        function.service_config[0].max_instance_request_concurrency,
        function.service_config[0].timeout_seconds,
      ])
      } == {
      receive   = "receive 1 512Mi 100 60"
      resolve   = "resolve 1 1Gi 8 540"
      reconcile = "reconcile 1 512Mi 1 1800"
    }
    error_message = "Entry point, processors, memory, concurrency and timeout of each function."
  }

  assert {
    condition = {
      for name, job in google_cloud_scheduler_job.reconcile : name => "${job.schedule} ${job.http_target[0].http_method} ${job.http_target[0].uri}"
      } == {
      hourly = "17 * * * * POST https://reconcile.a.run.app/?hours=6"
      daily  = "41 3 * * * POST https://reconcile.a.run.app/?hours=72"
      weekly = "23 4 * * 0 POST https://reconcile.a.run.app/?hours=2160"
    }
    error_message = "The scheduler calls reconcile hourly for the last 6 hours, daily for the last 72, and weekly for the last 90 days."
  }

  assert {
    condition = alltrue([
      for job in google_cloud_scheduler_job.reconcile : (
        job.http_target[0].oidc_token[0].audience == "https://reconcile.a.run.app"
        && job.http_target[0].oidc_token[0].service_account_email == "scheduler@warehouse-1.iam.gserviceaccount.com"
        && job.attempt_deadline == "1800s"
        && job.retry_config[0].retry_count == 5
      )
    ])
    error_message = "The scheduler sends a token for reconcile, waits 1800 s for the answer, and retries 5 times."
  }

  assert {
    condition = (
      tonumber(google_cloudfunctions2_function.this["reconcile"].service_config[0].environment_variables["ATTEMPT_SECONDS"]) + 30
      <= google_cloudfunctions2_function.this["reconcile"].service_config[0].timeout_seconds
    )
    error_message = "A reconcile ends, and answers with its counts, 30 s before its function times out."
  }

  assert {
    condition     = google_cloudfunctions2_function.this["receive"].service_config[0].environment_variables["EVENTS_TOPIC"] == "projects/warehouse-1/topics/dimmy-test-events"
    error_message = "receive publishes to the topic of the events."
  }

  assert {
    condition     = length(google_project_service.required) == 12 && alltrue([for api in google_project_service.required : api.disable_on_destroy == false])
    error_message = "The required APIs are enabled, and stay enabled after a destroy."
  }
}

run "storage" {
  command = plan

  assert {
    condition     = google_storage_bucket.data.name == "warehouse-1-dimmy-test-data" && google_storage_bucket.data.versioning[0].enabled
    error_message = "The bucket of the scans keeps old versions."
  }

  assert {
    condition     = google_storage_bucket.data.soft_delete_policy[0].retention_duration_seconds == 7 * 86400
    error_message = "Deleted objects can be restored for 7 days."
  }

  assert {
    condition = (
      [for rule in google_storage_bucket.data.lifecycle_rule : one(rule.action).type] == ["Delete", "Delete", "AbortIncompleteMultipartUpload"]
      && one(google_storage_bucket.data.lifecycle_rule[0].condition).matches_prefix == tolist(["payloads/"])
      && one(google_storage_bucket.data.lifecycle_rule[0].condition).age == 90
      && one(google_storage_bucket.data.lifecycle_rule[1].condition).days_since_noncurrent_time == 30
      && one(google_storage_bucket.data.lifecycle_rule[2].condition).age == 7
    )
    error_message = "Payloads are deleted after 90 days and old versions after 30; items and receipts are never deleted."
  }

  assert {
    condition = alltrue([
      for protected in [
        google_pubsub_topic.events, google_pubsub_topic.dead_letters,
        google_pubsub_subscription.resolve, google_pubsub_subscription.dead_letters,
        google_storage_bucket.data,
        google_secret_manager_secret.this["api_key"], google_secret_manager_secret.this["signing_secrets"],
      ] : protected.deletion_policy == "PREVENT"
    ]) && google_storage_bucket.data.force_destroy == false
    error_message = "Resources that hold scans, events or secrets are protected against deletion."
  }
}

run "receipt_retention" {
  command = plan

  variables {
    receipt_retention_days = 400
  }

  assert {
    condition = (
      length(google_storage_bucket.data.lifecycle_rule) == 4
      && one(google_storage_bucket.data.lifecycle_rule[3].action).type == "Delete"
      && one(google_storage_bucket.data.lifecycle_rule[3].condition).matches_prefix == tolist(["events/"])
      && one(google_storage_bucket.data.lifecycle_rule[3].condition).age == 400
    )
    error_message = "Receipts, and nothing else, are deleted after this time."
  }
}

run "unprotected" {
  command = plan

  variables {
    deletion_protection = false
  }

  assert {
    condition     = google_storage_bucket.data.force_destroy && google_pubsub_topic.events.deletion_policy == "DELETE"
    error_message = "Without deletion protection everything can be deleted."
  }
}
