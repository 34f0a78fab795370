# Each environment plans with nothing but its own file; `terraform test` alone does not run this one:
# terraform test -test-directory=tests/environments -var-file=envs/dev.tfvars

mock_provider "google" {
  source          = "./tests/mocks"
  override_during = plan
}

variables {
  project = "warehouse-1"
  archive = "tests/archive.zip"
}

run "environment" {
  command = plan

  assert {
    condition     = output.environment == var.environment && google_pubsub_topic.events.name == "dimmy-${var.environment}-events"
    error_message = "Names say which environment a thing belongs to."
  }

  assert {
    condition     = var.environment != "prod" || (var.deletion_protection && google_cloudfunctions2_function.this["receive"].service_config[0].min_instance_count >= 1)
    error_message = "prod is protected, and always has an instance of receive waiting."
  }
}
