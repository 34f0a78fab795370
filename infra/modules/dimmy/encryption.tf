# Optional: encryption with a key of your own (CMEK). Each resource that takes it has it in its own file, and
# is created after these roles: Google's services encrypt with their own accounts. In a new project those have
# to be asked for first (`make bootstrap`).

locals {
  _agents = {
    artifact-registry = "service-${data.google_project.this.number}@gcp-sa-artifactregistry.iam.gserviceaccount.com"
    cloud-functions   = "service-${data.google_project.this.number}@gcf-admin-robot.iam.gserviceaccount.com"
    cloud-run         = "service-${data.google_project.this.number}@serverless-robot-prod.iam.gserviceaccount.com"
    # https://cloud.google.com/functions/docs/securing/cmek lists it for all functions.
    eventarc       = "service-${data.google_project.this.number}@gcp-sa-eventarc.iam.gserviceaccount.com"
    pubsub         = "service-${data.google_project.this.number}@gcp-sa-pubsub.iam.gserviceaccount.com"
    secret-manager = "service-${data.google_project.this.number}@gcp-sa-secretmanager.iam.gserviceaccount.com"
  }

  # Reading these two creates them.
  _agents_read = merge(
    { for agent in data.google_storage_project_service_account.this : "cloud-storage" => agent.email_address },
    { for agent in data.google_bigquery_default_service_account.this : "bigquery" => agent.email },
  )

  _kms_keys = concat(var.kms_key == null ? [] : [var.kms_key], var.former_kms_keys)

  _key_users = merge([
    for key in local._kms_keys : {
      for name, email in merge(local._agents, local._agents_read) : "${key}/${name}" => { key = key, email = email }
    }
  ]...)
}

data "google_storage_project_service_account" "this" {
  count = length(local._kms_keys) > 0 ? 1 : 0

  project = var.project
}

data "google_bigquery_default_service_account" "this" {
  count = var.bigquery && length(local._kms_keys) > 0 ? 1 : 0

  project = var.project
}

resource "google_kms_crypto_key_iam_member" "agent" {
  for_each = local._key_users

  crypto_key_id = each.value.key
  role          = "roles/cloudkms.cryptoKeyEncrypterDecrypter"
  member        = "serviceAccount:${each.value.email}"

  depends_on = [google_project_service.required]
}
