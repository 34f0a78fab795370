# Optional: deployments from GitHub Actions (.github/workflows).

module "github" {
  source = "./modules/github"
  count  = var.github_repository == null ? 0 : 1

  environment = var.environment
  project     = var.project
  repository  = var.github_repository

  planner_buckets = ["${var.project}-dimmy-terraform-state", module.dimmy.sources_bucket]

  extra_roles = {
    deployer = concat(
      var.bigquery == true ? ["bigquery.admin"] : [],
      var.load_balancer == null && var.egress == null ? [] : ["compute.admin"],
    )
    planner = concat(
      var.bigquery == true ? ["bigquery.metadataViewer"] : [],
      var.budget == null ? [] : ["serviceusage.serviceUsageConsumer"],
      var.load_balancer == null && var.egress == null ? [] : ["compute.viewer"],
    )
  }
}

output "github" {
  description = "What GitHub's variables GCP_DEPLOYER, GCP_PLANNER and GCP_IDENTITY_PROVIDER are set to; null without github_repository."
  value       = one(module.github[*])
}
