# Each environment can be planned with only its own file. `terraform test` alone does not run this test:
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
    error_message = "The names of resources contain the environment."
  }

  assert {
    condition     = var.environment != "prod" || (var.deletion_protection && google_cloudfunctions2_function.this["receive"].service_config[0].min_instance_count >= 1)
    error_message = "prod is protected, and always runs an instance of receive."
  }
}
