# Each environment can be planned with only its own file. It is run by itself:
# terraform test -filter=tests/environment.tftest.hcl -var-file=envs/dev.tfvars

mock_provider "google" {
  source          = "./modules/dimmy/tests/mocks"
  override_during = plan
}

variables {
  project = "warehouse-1"
  archive = "modules/dimmy/tests/archive.zip"
}

run "environment" {
  command = plan

  assert {
    condition     = output.environment == var.environment && output.bucket == "warehouse-1-dimmy-${var.environment}-data"
    error_message = "The names of resources contain the environment."
  }

  assert {
    condition     = var.environment != "prod" || (var.deletion_protection && var.receive_instances.min >= 1)
    error_message = "prod is protected, and always runs an instance of receive."
  }
}
