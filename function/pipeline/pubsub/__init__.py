"""What every use of Pub/Sub has in common: its settings, its options, and push requests."""
