# Development: few instances, short retention, and no protection against deletion.

environment         = "dev"
deletion_protection = false

event_retention_days       = 7
log_level                  = "DEBUG"
max_delivery_attempts      = 20
old_version_retention_days = 7
receive_instances          = { min = 0, max = 2 }
resolve_instances          = { min = 0, max = 2 }
soft_delete_days           = 0
