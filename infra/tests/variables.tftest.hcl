# Invalid values of the variables that only the root has.

mock_provider "google" {
  source          = "./modules/dimmy/tests/mocks"
  override_during = plan
}

variables {
  project     = "warehouse-1"
  environment = "test"
  archive     = "modules/dimmy/tests/archive.zip"
}

run "github_repository_1" {
  command = plan

  variables {
    github_repository = "https://github.com/warehouse-company/dimmy"
  }

  expect_failures = [var.github_repository]
}

run "labels_1" {
  command = plan

  variables {
    labels = { Team = "x" }
  }

  expect_failures = [var.labels]
}

run "labels_2" {
  command = plan

  variables {
    labels = { team = "A B" }
  }

  expect_failures = [var.labels]
}

