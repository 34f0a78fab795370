"""What an API consists of."""

from collections.abc import Sequence

from sandbox.google_cloud.errors import ApiError
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import Resources
from sandbox.google_cloud.routes import Route


class Api:
    """An API. A subclass sets its name, its texts and its routes.

    `missing` and `taken` are its texts for a resource that does not exist, or exists, with `{name}`
    or `{id}`, the last part of the name. `is_older` selects the format of the older APIs.
    """

    name = ""
    missing = "Requested entity was not found."
    taken = "Requested entity already exists"
    is_older = False

    def __init__(self, project: Project) -> None:
        self.project = project
        self.resources = Resources(self.missing_error, self.taken_error)
        project.resources[self.name] = self.resources

    def routes(self) -> Sequence[Route]:
        """Tried in this order."""
        raise NotImplementedError

    def missing_error(self, name: str) -> ApiError:
        """The error for a resource that does not exist."""
        return ApiError(404, self.missing.format(name=name, id=name.rpartition("/")[2]))

    def taken_error(self, name: str) -> ApiError:
        """The error for a name that is taken."""
        return ApiError(409, self.taken.format(name=name, id=name.rpartition("/")[2]))

    def policy_key(self, name: str) -> str:
        """The key of a resource's IAM policy. Raises ApiError (404)."""
        self.resources.get(name)
        return f"{self.name}/{name}"

    def delete(self, name: str) -> None:
        """Delete a resource with its policy. Raises ApiError (404)."""
        self.resources.delete(name)
        self.project.policies.drop(f"{self.name}/{name}")
