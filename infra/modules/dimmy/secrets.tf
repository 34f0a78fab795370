# The secrets and their readers. Their values are neither here nor in the state: `make secrets` adds
# them as versions, and `make deploy` sets the version that the functions read.

locals {
  _secrets = {
    api_key         = { id = "${local._prefix}-api-key", readers = ["reconciler", "resolver"] }
    signing_secrets = { id = "${local._prefix}-signing-secrets", readers = ["receiver"] }
  }

  _secret_readers = merge([
    for name, secret in local._secrets : {
      for reader in secret.readers : "${name}/${reader}" => { secret = name, reader = reader }
    }
  ]...)
}

resource "google_secret_manager_secret" "this" {
  for_each = local._secrets

  project         = var.project
  secret_id       = each.value.id
  deletion_policy = local._deletion_policy

  # Where an organisation restricts locations, it refuses automatic replication, which is global.
  replication {
    user_managed {
      dynamic "replicas" {
        for_each = length(var.secret_locations) == 0 ? [var.region] : var.secret_locations

        content {
          location = replicas.value

          dynamic "customer_managed_encryption" {
            for_each = var.kms_key == null ? [] : [var.kms_key]

            content {
              kms_key_name = customer_managed_encryption.value
            }
          }
        }
      }
    }
  }

  # It cannot be changed: a secret that was created with another replication keeps it, and its versions.
  lifecycle {
    ignore_changes = [replication]
  }

  depends_on = [google_kms_crypto_key_iam_member.agent, google_project_service.required]
}

resource "google_secret_manager_secret_iam_member" "reader" {
  for_each = local._secret_readers

  project   = var.project
  secret_id = google_secret_manager_secret.this[each.value.secret].id
  role      = "roles/secretmanager.secretAccessor"
  member    = local._members[each.value.reader]
}
