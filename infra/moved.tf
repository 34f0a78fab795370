# Installations from before this configuration became a module keep their resources: none of them is
# deleted or replaced.

moved {
  from = google_monitoring_notification_channel.email
  to   = module.dimmy.google_monitoring_notification_channel.email
}

moved {
  from = google_monitoring_alert_policy.this
  to   = module.dimmy.google_monitoring_alert_policy.this
}

moved {
  from = google_monitoring_alert_policy.silence
  to   = module.dimmy.google_monitoring_alert_policy.silence
}

moved {
  from = google_project_service.required
  to   = module.dimmy.google_project_service.required
}

moved {
  from = google_bigquery_dataset.scans
  to   = module.dimmy.google_bigquery_dataset.scans
}

moved {
  from = google_bigquery_table.view
  to   = module.dimmy.google_bigquery_table.view
}

moved {
  from = google_monitoring_dashboard.this
  to   = module.dimmy.google_monitoring_dashboard.this
}

moved {
  from = google_cloudfunctions2_function.this
  to   = module.dimmy.google_cloudfunctions2_function.this
}

moved {
  from = google_cloud_run_service_iam_member.invoker
  to   = module.dimmy.google_cloud_run_service_iam_member.invoker
}

moved {
  from = google_storage_bucket_object.archive
  to   = module.dimmy.google_storage_bucket_object.archive
}

moved {
  from = google_artifact_registry_repository.images
  to   = module.dimmy.google_artifact_registry_repository.images
}

moved {
  from = google_artifact_registry_repository_iam_member.builder_writes_images
  to   = module.dimmy.google_artifact_registry_repository_iam_member.builder_writes_images
}

moved {
  from = google_storage_bucket_iam_member.builder_reads_sources
  to   = module.dimmy.google_storage_bucket_iam_member.builder_reads_sources
}

moved {
  from = google_project_iam_member.builder
  to   = module.dimmy.google_project_iam_member.builder
}

moved {
  from = google_compute_global_address.receive
  to   = module.dimmy.google_compute_global_address.receive
}

moved {
  from = google_compute_security_policy.receive
  to   = module.dimmy.google_compute_security_policy.receive
}

moved {
  from = google_compute_region_network_endpoint_group.receive
  to   = module.dimmy.google_compute_region_network_endpoint_group.receive
}

moved {
  from = google_compute_backend_service.receive
  to   = module.dimmy.google_compute_backend_service.receive
}

moved {
  from = google_compute_url_map.receive
  to   = module.dimmy.google_compute_url_map.receive
}

moved {
  from = google_compute_managed_ssl_certificate.receive
  to   = module.dimmy.google_compute_managed_ssl_certificate.receive
}

moved {
  from = google_compute_ssl_policy.receive
  to   = module.dimmy.google_compute_ssl_policy.receive
}

moved {
  from = google_compute_target_https_proxy.receive
  to   = module.dimmy.google_compute_target_https_proxy.receive
}

moved {
  from = google_compute_global_forwarding_rule.receive
  to   = module.dimmy.google_compute_global_forwarding_rule.receive
}

moved {
  from = google_logging_metric.this
  to   = module.dimmy.google_logging_metric.this
}

moved {
  from = google_pubsub_topic.events
  to   = module.dimmy.google_pubsub_topic.events
}

moved {
  from = google_pubsub_topic.dead_letters
  to   = module.dimmy.google_pubsub_topic.dead_letters
}

moved {
  from = google_pubsub_subscription.resolve
  to   = module.dimmy.google_pubsub_subscription.resolve
}

moved {
  from = google_pubsub_subscription.dead_letters
  to   = module.dimmy.google_pubsub_subscription.dead_letters
}

moved {
  from = google_pubsub_topic_iam_member.receiver_publishes_events
  to   = module.dimmy.google_pubsub_topic_iam_member.receiver_publishes_events
}

moved {
  from = google_pubsub_topic_iam_member.agent_publishes_dead_letters
  to   = module.dimmy.google_pubsub_topic_iam_member.agent_publishes_dead_letters
}

moved {
  from = google_service_account_iam_member.agent_signs_as_pusher
  to   = module.dimmy.google_service_account_iam_member.agent_signs_as_pusher
}

moved {
  from = google_pubsub_subscription_iam_member.agent_takes_dead_letters
  to   = module.dimmy.google_pubsub_subscription_iam_member.agent_takes_dead_letters
}

moved {
  from = google_cloud_scheduler_job.reconcile
  to   = module.dimmy.google_cloud_scheduler_job.reconcile
}

moved {
  from = google_secret_manager_secret.this
  to   = module.dimmy.google_secret_manager_secret.this
}

moved {
  from = google_secret_manager_secret_iam_member.reader
  to   = module.dimmy.google_secret_manager_secret_iam_member.reader
}

moved {
  from = google_service_account.this
  to   = module.dimmy.google_service_account.this
}

moved {
  from = google_storage_bucket.data
  to   = module.dimmy.google_storage_bucket.data
}

moved {
  from = google_storage_bucket_iam_member.function
  to   = module.dimmy.google_storage_bucket_iam_member.function
}

moved {
  from = google_storage_bucket_iam_member.lister
  to   = module.dimmy.google_storage_bucket_iam_member.lister
}

moved {
  from = google_storage_bucket.sources
  to   = module.dimmy.google_storage_bucket.sources
}
