"""What a reconcile counts, in the order in which people read it."""

COUNTS = ("seen", "stored", "updated", "unchanged", "failed")
