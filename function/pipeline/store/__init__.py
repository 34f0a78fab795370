"""Storage of items, receipts and large bodies, in a bucket or a folder."""
