# Like prod in everything that can break, without its waiting instance.

environment         = "staging"
deletion_protection = true

receive_instances = { min = 0, max = 4 }
resolve_instances = { min = 0, max = 2 }
