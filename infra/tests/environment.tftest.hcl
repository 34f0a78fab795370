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
    condition     = output.environment == var.environment && output.functions.receive.name == "dimmy-${var.environment}-receive"
    error_message = "The names of resources contain the environment."
  }

  assert {
    condition     = var.environment != "prod" || (coalesce(var.deletion_protection, true) && try(var.receive_instances.min, 0) >= 1)
    error_message = "prod is protected, and always runs an instance of receive."
  }
}
