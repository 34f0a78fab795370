# Staging: protected as prod, but smaller, with the default retention, and without an instance that always runs.

environment         = "staging"
deletion_protection = true

receive_instances = { min = 0, max = 4 }
resolve_instances = { min = 0, max = 2 }
