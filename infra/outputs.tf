output "archive_subscription" {
  description = "The push subscription of archive; null without photos."
  value       = module.dimmy.archive_subscription
}

output "bigquery_dataset" {
  description = "The dataset with the views items and events, as PROJECT.DATASET; null without bigquery."
  value       = module.dimmy.bigquery_dataset
}

output "bigquery_subscriptions" {
  description = "The subscriptions that Pub/Sub writes into BigQuery."
  value       = module.dimmy.bigquery_subscriptions
}

output "bucket" {
  description = "The bucket of the scans: items/, events/, payloads/ and photos/."
  value       = module.dimmy.bucket
}

output "certificate" {
  description = "The name of the load balancer's managed certificate; null without a load balancer."
  value       = module.dimmy.certificate
}

output "dead_letter_subscription" {
  description = "The subscription of the dead letters; `make redrive` sends them to resolve again."
  value       = module.dimmy.dead_letter_subscription
}

output "egress_address" {
  description = "The address from which resolve and reconcile call Dimmy's API; null unless egress is set."
  value       = module.dimmy.egress_address
}

output "environment" {
  description = "The environment of this state."
  value       = module.dimmy.environment
}

output "functions" {
  description = "Names, URLs and callers of the functions."
  value       = module.dimmy.functions
}

output "item_dead_letter_subscriptions" {
  description = "The subscriptions of the dead letters of BigQuery, archive and the item subscribers."
  value       = module.dimmy.item_dead_letter_subscriptions
}

output "items_topic" {
  description = "The topic with every item that is settled; null unless an option needs it."
  value       = module.dimmy.items_topic
}

output "load_balancer_address" {
  description = "The address for the domain's A record; null without a load balancer."
  value       = module.dimmy.load_balancer_address
}

output "load_balancer_ipv6_address" {
  description = "The address for the domain's AAAA record; null without a load balancer or its IPv6 address."
  value       = module.dimmy.load_balancer_ipv6_address
}

output "pusher" {
  description = "The service account that pushes to resolve, for `make redrive`."
  value       = module.dimmy.pusher
}

output "receive_url_open" {
  description = "Whether receive can be called at its own URL; always true without a load balancer."
  value       = module.dimmy.receive_url_open
}

output "reconcile_ingress" {
  description = "Which traffic reaches reconcile: with ALLOW_INTERNAL_ONLY only requests from within the project."
  value       = module.dimmy.reconcile_ingress
}

output "region" {
  description = "The region in which everything runs."
  value       = module.dimmy.region
}

output "scheduler_jobs" {
  description = "The Cloud Scheduler jobs that call reconcile."
  value       = module.dimmy.scheduler_jobs
}

output "scheduler_region" {
  description = "The region of the scheduler jobs."
  value       = module.dimmy.scheduler_region
}

output "secrets" {
  description = "The secrets' ids, for `make secrets`."
  value       = module.dimmy.secrets
}

output "sources_bucket" {
  description = "The bucket of the functions' archives."
  value       = module.dimmy.sources_bucket
}

output "subscription" {
  description = "The push subscription of resolve; its undelivered messages are the backlog."
  value       = module.dimmy.subscription
}

output "topic" {
  description = "The topic that receive publishes events to."
  value       = module.dimmy.topic
}

output "webhook_url" {
  description = "The URL to enter as an endpoint in Dimmy's webhook dashboard."
  value       = module.dimmy.webhook_url
}
