output "archive_subscription" {
  description = "The push subscription of archive; null without photos."
  value       = one([for subscription in google_pubsub_subscription.archive : subscription.id])
}

output "bigquery_dataset" {
  description = "The dataset with the views items and events, as PROJECT.DATASET; null without bigquery."
  value       = one([for dataset in google_bigquery_dataset.scans : "${dataset.project}.${dataset.dataset_id}"])
}

output "bigquery_subscriptions" {
  description = "The subscriptions that Pub/Sub writes into BigQuery, by their names without the prefix."
  value       = { for name, subscription in google_pubsub_subscription.bigquery : name => subscription.id }
}

output "bucket" {
  description = "The bucket of the scans: items/, events/, payloads/ and photos/."
  value       = google_storage_bucket.data.name
}

output "certificate" {
  description = "The name of the load balancer's managed certificate; null without a load balancer."
  value       = one([for certificate in google_compute_managed_ssl_certificate.receive : certificate.name])
}

output "dead_letter_subscription" {
  description = "The subscription of the dead letters; `make redrive` sends them to resolve again."
  value       = google_pubsub_subscription.dead_letters["resolve"].id
}

output "egress_address" {
  description = "The address from which resolve and reconcile call Dimmy's API; null unless egress is set."
  value       = one([for address in google_compute_address.egress : address.address])
}

output "environment" {
  description = "The environment of this state."
  value       = var.environment
}

output "functions" {
  description = "Names, URLs and callers of the functions."
  value = {
    for name, function in google_cloudfunctions2_function.this : name => {
      name    = function.name
      url     = function.service_config[0].uri
      invoker = lookup(local._invokers, name, null)
    }
  }
}

output "item_dead_letter_subscriptions" {
  description = "The subscriptions of the dead letters of BigQuery, archive and the item subscribers, by the name of the subscription that gave up."
  value       = { for name, subscription in google_pubsub_subscription.dead_letters : name => subscription.id if name != "resolve" }
}

output "items_topic" {
  description = "The topic with every item that is settled; null unless an option needs it."
  value       = one(google_pubsub_topic.item_versions[*].id)
}

output "load_balancer_address" {
  description = "The address for the domain's A record; null without a load balancer."
  value       = one([for address in google_compute_global_address.receive : address.address])
}

output "load_balancer_ipv6_address" {
  description = "The address for the domain's AAAA record; null without a load balancer or its IPv6 address."
  value       = one([for address in google_compute_global_address.receive_ipv6 : address.address])
}

output "pusher" {
  description = "The service account that pushes to resolve (and to archive), for `make redrive`."
  value       = google_service_account.this["pusher"].email
}

output "receive_url_open" {
  description = "Whether receive can be called at its own URL, too; always without a load balancer."
  value       = local._receive_is_open
}

output "reconcile_ingress" {
  description = "Which traffic reaches reconcile: with ALLOW_INTERNAL_ONLY only requests from within the project."
  value       = var.reconcile_ingress
}

output "region" {
  description = "The region in which everything runs."
  value       = var.region
}

output "scheduler_jobs" {
  description = "The Cloud Scheduler jobs that call reconcile."
  value       = { for name, job in google_cloud_scheduler_job.reconcile : name => "projects/${var.project}/locations/${job.region}/jobs/${job.name}" }
}

output "scheduler_region" {
  description = "The region of Cloud Scheduler."
  value       = coalesce(var.scheduler_region, var.region)
}

output "secrets" {
  description = "The secrets' ids, for `make secrets`."
  value       = { for name, secret in google_secret_manager_secret.this : name => secret.secret_id }
}

output "sources_bucket" {
  description = "The bucket of the functions' archives."
  value       = google_storage_bucket.sources.name
}

output "subscription" {
  description = "The push subscription of resolve; its undelivered messages are the backlog."
  value       = google_pubsub_subscription.resolve.id
}

output "topic" {
  description = "The topic that receive publishes events to."
  value       = google_pubsub_topic.events.id
}

output "webhook_url" {
  description = "The URL to enter as an endpoint in Dimmy's webhook dashboard."
  value = (
    var.load_balancer == null
    ? google_cloudfunctions2_function.this["receive"].service_config[0].uri
    : "https://${var.load_balancer.domain}/"
  )
}
