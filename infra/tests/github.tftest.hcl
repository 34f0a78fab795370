# Deployments from GitHub Actions: which jobs may act as which account, and with which roles.

mock_provider "google" {
  source          = "./modules/dimmy/tests/mocks"
  override_during = plan
}

override_resource {
  target          = module.github[0].google_iam_workload_identity_pool.this
  override_during = plan
  values = {
    name = "projects/123456789012/locations/global/workloadIdentityPools/dimmy-test-github"
  }
}

override_resource {
  target          = module.github[0].google_service_account.deployer
  override_during = plan
  values = {
    member = "serviceAccount:deployer@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/deployer@warehouse-1.iam.gserviceaccount.com"
  }
}

override_resource {
  target          = module.github[0].google_service_account.planner
  override_during = plan
  values = {
    member = "serviceAccount:planner@warehouse-1.iam.gserviceaccount.com"
    name   = "projects/warehouse-1/serviceAccounts/planner@warehouse-1.iam.gserviceaccount.com"
  }
}

variables {
  project           = "warehouse-1"
  environment       = "test"
  archive           = "modules/dimmy/tests/archive.zip"
  github_repository = "warehouse-company/dimmy"
}

run "github" {
  command = plan
}

run "github_with_options" {
  command = plan

  variables {
    bigquery      = true
    load_balancer = { domain = "hooks.example.com" }
  }
}

run "no_github" {
  command = plan

  variables {
    github_repository = null
  }

  assert {
    condition     = output.github == null && length(module.github) == 0
    error_message = "It is off by default."
  }
}
