# Production: protected against deletion. One instance of receive always runs, which avoids cold starts.

environment         = "prod"
deletion_protection = true

old_version_retention_days = 90
receive_instances          = { min = 1, max = 20 }
resolve_instances          = { min = 0, max = 4 }
soft_delete_days           = 30
