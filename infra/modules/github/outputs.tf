output "deployer" {
  description = "The account of deployments, for the variable GCP_DEPLOYER."
  value       = google_service_account.deployer.email
}

output "planner" {
  description = "The account of plans, for the variable GCP_PLANNER."
  value       = google_service_account.planner.email
}

output "provider" {
  description = "The provider of identities, for the variable GCP_IDENTITY_PROVIDER."
  value       = google_iam_workload_identity_pool_provider.this.name
}
