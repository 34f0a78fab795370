"""The pipeline from a webhook to storage: a package for each function, and what they share.

`receive`, `resolve`, `reconcile` and `archive` are the deployed functions. `dimmy` is the client of
Dimmy's API, `store` the storage. The modules beside them are used by several packages and import
none of them. A test checks which package imports which.
"""
