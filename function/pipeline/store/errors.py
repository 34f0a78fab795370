"""The errors of storage."""


class StorageError(Exception):
    """Storage refused, or could not be reached. An object is unchanged or complete, never torn."""


class ObjectNotFoundError(StorageError):
    """There is no such object."""
