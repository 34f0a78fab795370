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
      for subscription in [google_pubsub_subscription.resolve, google_pubsub_subscription.dead_letters["resolve"]] : (
        subscription.ack_deadline_seconds == 600
        && subscription.message_retention_duration == "2678400s"
        && subscription.expiration_policy[0].ttl == ""
        && subscription.retry_policy[0].minimum_backoff == "10s"
      )
    ])
    error_message = "Both subscriptions wait 600 s for an answer, back off, keep messages for 31 days, and never expire."
  }

  assert {
    condition     = google_pubsub_subscription.resolve.retry_policy[0].maximum_backoff == "600s" && google_pubsub_subscription.dead_letters["resolve"].retry_policy[0].maximum_backoff == "60s"
    error_message = "An event waits at most 10 minutes for its next attempt, a dead letter at most one."
  }

  assert {
    condition = (
      google_pubsub_subscription.dead_letters["resolve"].topic == "projects/warehouse-1/topics/dimmy-test-dead-letters"
      && length(google_pubsub_subscription.dead_letters["resolve"].push_config) == 0
      && length(google_pubsub_subscription.dead_letters["resolve"].dead_letter_policy) == 0
    )
    error_message = "Dead letters can be pulled and are not forwarded again."
  }

  assert {
    condition = (
      google_pubsub_topic_iam_member.agent_publishes_dead_letters["resolve"].topic == "projects/warehouse-1/topics/dimmy-test-dead-letters"
      && google_pubsub_topic_iam_member.agent_publishes_dead_letters["resolve"].role == "roles/pubsub.publisher"
      && google_pubsub_topic_iam_member.agent_publishes_dead_letters["resolve"].member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters["resolve"].subscription == "projects/warehouse-1/subscriptions/dimmy-test-resolve"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters["resolve"].role == "roles/pubsub.subscriber"
      && google_pubsub_subscription_iam_member.agent_takes_dead_letters["resolve"].member == "serviceAccount:service-123456789012@gcp-sa-pubsub.iam.gserviceaccount.com"
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
      reconcile = "reconcile 1 2Gi 1 1800"
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
        google_pubsub_topic.events, google_pubsub_topic.dead_letters["resolve"],
        google_pubsub_subscription.resolve, google_pubsub_subscription.dead_letters["resolve"],
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

run "dead_letters" {
  command = plan

  variables {
    bigquery         = true
    photos           = "archive"
    item_subscribers = { wms = { endpoint = "https://wms.example.com/items" } }
  }

  assert {
    condition = {
      for subscription in concat([google_pubsub_subscription.resolve], values(google_pubsub_subscription.bigquery), values(google_pubsub_subscription.archive), values(google_pubsub_subscription.subscriber)) :
      subscription.name => "${subscription.dead_letter_policy[0].dead_letter_topic} ${subscription.dead_letter_policy[0].max_delivery_attempts}"
      } == {
      dimmy-test-resolve                 = "projects/warehouse-1/topics/dimmy-test-dead-letters 100"
      dimmy-test-item-versions-bigquery  = "projects/warehouse-1/topics/dimmy-test-item-versions-bigquery-dead-letters 100"
      dimmy-test-event-attempts-bigquery = "projects/warehouse-1/topics/dimmy-test-event-attempts-bigquery-dead-letters 100"
      dimmy-test-archive                 = "projects/warehouse-1/topics/dimmy-test-archive-dead-letters 100"
      dimmy-test-subscriber-wms          = "projects/warehouse-1/topics/dimmy-test-subscriber-wms-dead-letters 100"
    }
    error_message = "Every subscription forwards what it cannot deliver to a topic of its own."
  }

  assert {
    condition = alltrue([
      for name, subscription in google_pubsub_subscription.dead_letters : (
        subscription.topic == google_pubsub_topic.dead_letters[name].id
        && subscription.message_retention_duration == "2678400s"
        && subscription.expiration_policy[0].ttl == ""
        && length(subscription.dead_letter_policy) == 0
        && subscription.deletion_policy == (name == "resolve" ? "PREVENT" : "DELETE")
        && google_pubsub_topic.dead_letters[name].deletion_policy == (name == "resolve" ? "PREVENT" : "DELETE")
      )
    ])
    error_message = "Every topic of dead letters has a subscription that keeps them for 31 days and never expires."
  }

  assert {
    condition = {
      for name, member in google_pubsub_subscription_iam_member.agent_takes_dead_letters :
      member.subscription => "${member.role} ${google_pubsub_topic_iam_member.agent_publishes_dead_letters[name].role} ${google_pubsub_topic_iam_member.agent_publishes_dead_letters[name].topic}"
      } == {
      "projects/warehouse-1/subscriptions/dimmy-test-resolve"                 = "roles/pubsub.subscriber roles/pubsub.publisher projects/warehouse-1/topics/dimmy-test-dead-letters"
      "projects/warehouse-1/subscriptions/dimmy-test-item-versions-bigquery"  = "roles/pubsub.subscriber roles/pubsub.publisher projects/warehouse-1/topics/dimmy-test-item-versions-bigquery-dead-letters"
      "projects/warehouse-1/subscriptions/dimmy-test-event-attempts-bigquery" = "roles/pubsub.subscriber roles/pubsub.publisher projects/warehouse-1/topics/dimmy-test-event-attempts-bigquery-dead-letters"
      "projects/warehouse-1/subscriptions/dimmy-test-archive"                 = "roles/pubsub.subscriber roles/pubsub.publisher projects/warehouse-1/topics/dimmy-test-archive-dead-letters"
      "projects/warehouse-1/subscriptions/dimmy-test-subscriber-wms"          = "roles/pubsub.subscriber roles/pubsub.publisher projects/warehouse-1/topics/dimmy-test-subscriber-wms-dead-letters"
    }
    error_message = "Pub/Sub's service agent may take from each subscription and publish to its topic of dead letters."
  }

  assert {
    condition = alltrue([
      for subscription in concat(values(google_pubsub_subscription.bigquery), values(google_pubsub_subscription.archive), values(google_pubsub_subscription.subscriber)) : (
        subscription.message_retention_duration == "2678400s"
        && subscription.expiration_policy[0].ttl == ""
        && subscription.retry_policy[0].minimum_backoff == "10s"
        && subscription.retry_policy[0].maximum_backoff == "600s"
      )
    ])
    error_message = "Every subscription backs off, keeps messages for 31 days, and never expires."
  }

  assert {
    condition     = output.item_dead_letter_subscriptions["archive"] == "projects/warehouse-1/subscriptions/dimmy-test-archive-dead-letters" && length(output.item_dead_letter_subscriptions) == 4
    error_message = "Their subscriptions are an output."
  }
}

run "photos" {
  command = plan

  variables {
    photos      = "archive"
    photo_hosts = ["dimmy.s3.amazonaws.com", "photos.example.com"]
  }

  assert {
    condition = (
      google_pubsub_subscription.archive["archive"].topic == "projects/warehouse-1/topics/dimmy-test-item-versions"
      && google_pubsub_subscription.archive["archive"].push_config[0].push_endpoint == "https://archive.a.run.app"
      && google_pubsub_subscription.archive["archive"].push_config[0].oidc_token[0].audience == "https://archive.a.run.app"
      && google_pubsub_subscription.archive["archive"].push_config[0].oidc_token[0].service_account_email == "pusher@warehouse-1.iam.gserviceaccount.com"
    )
    error_message = "Pub/Sub pushes every item to archive, as the pusher, with a token for archive."
  }

  assert {
    condition = (
      tonumber(google_cloudfunctions2_function.this["archive"].service_config[0].environment_variables["ATTEMPT_SECONDS"]) + 30
      <= google_cloudfunctions2_function.this["archive"].service_config[0].timeout_seconds
      && google_cloudfunctions2_function.this["archive"].service_config[0].timeout_seconds
      < google_pubsub_subscription.archive["archive"].ack_deadline_seconds
      && google_pubsub_subscription.archive["archive"].ack_deadline_seconds == 600
    )
    error_message = "An attempt ends 30 s before its function times out, which is before Pub/Sub delivers the message again."
  }

  assert {
    condition = join(" ", [
      google_cloudfunctions2_function.this["archive"].build_config[0].entry_point,
      google_cloudfunctions2_function.this["archive"].service_config[0].available_memory,
      google_cloudfunctions2_function.this["archive"].service_config[0].max_instance_request_concurrency,
      google_cloudfunctions2_function.this["archive"].service_config[0].environment_variables["THREADS"],
    ]) == "archive 1Gi 8 8"
    error_message = "Entry point, memory and concurrency of archive, with a thread for each request."
  }

  assert {
    condition     = google_cloudfunctions2_function.this["archive"].service_config[0].environment_variables["PHOTO_HOSTS"] == "dimmy.s3.amazonaws.com photos.example.com"
    error_message = "archive gets the list of hosts."
  }

  assert {
    condition     = output.archive_subscription == "projects/warehouse-1/subscriptions/dimmy-test-archive" && output.items_topic != null
    error_message = "The subscription is an output; photos need the topic of items."
  }
}

run "item_subscribers" {
  command = plan

  variables {
    item_subscribers = {
      wms = {
        endpoint              = "https://wms.example.com/items?site=7"
        audience              = "https://wms.example.com"
        flow_ids              = ["6706791f0ef1532d113aad74", "a \"quoted\" \\ flow"]
        ack_deadline_seconds  = 30
        min_backoff_seconds   = 1
        max_backoff_seconds   = 300
        max_delivery_attempts = 20
      }
      erp = { endpoint = "https://erp.example.com" }
    }
  }

  assert {
    condition = {
      for name, subscription in google_pubsub_subscription.subscriber : name => join(" ", [
        subscription.topic, subscription.push_config[0].push_endpoint, subscription.ack_deadline_seconds,
        subscription.retry_policy[0].minimum_backoff, subscription.retry_policy[0].maximum_backoff,
        subscription.dead_letter_policy[0].max_delivery_attempts,
      ])
      } == {
      subscriber-erp = "projects/warehouse-1/topics/dimmy-test-item-versions https://erp.example.com 60 10s 600s 100"
      subscriber-wms = "projects/warehouse-1/topics/dimmy-test-item-versions https://wms.example.com/items?site=7 30 1s 300s 20"
    }
    error_message = "Each subscriber has a subscription with its own settings."
  }

  assert {
    condition = (
      google_pubsub_subscription.subscriber["subscriber-wms"].push_config[0].oidc_token[0].service_account_email == "notifier@warehouse-1.iam.gserviceaccount.com"
      && google_pubsub_subscription.subscriber["subscriber-wms"].push_config[0].oidc_token[0].audience == "https://wms.example.com"
      && length(google_pubsub_subscription.subscriber["subscriber-erp"].push_config[0].oidc_token) == 0
    )
    error_message = "A subscriber with an audience gets a token of an account that may not call resolve."
  }

  assert {
    condition = (
      google_pubsub_subscription.subscriber["subscriber-wms"].filter == "attributes.flow-id = \"6706791f0ef1532d113aad74\" OR attributes.flow-id = \"a \\\"quoted\\\" \\\\ flow\""
      && google_pubsub_subscription.subscriber["subscriber-erp"].filter == null
    )
    error_message = "A filter has the flows as quoted texts; without flows there is none."
  }
}

run "item_subscribers_without_tokens" {
  command = plan

  variables {
    item_subscribers = { erp = { endpoint = "https://erp.example.com" } }
  }

  assert {
    condition     = !contains(keys(google_service_account.this), "notifier") && length(google_service_account_iam_member.agent_signs_as_notifier) == 0
    error_message = "The account exists only where a subscriber gets its tokens."
  }
}
