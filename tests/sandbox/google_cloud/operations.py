"""Long-running operations (https://google.aip.dev/151). Their effect is immediate."""

import uuid

from sandbox.google_cloud.errors import ApiError, Json


class Operations:
    """`polls` is how often each operation answers that it is not done yet."""

    def __init__(self) -> None:
        self.polls = 0
        self._done: dict[str, Json] = {}
        self._left: dict[str, int] = {}

    def start(
        self, parent: str, response: Json | None = None, error: ApiError | None = None
    ) -> Json:
        """An operation below a parent such as `projects/p/locations/l`, empty for none."""
        name = f"{parent}/operations/{uuid.uuid4()}".lstrip("/")
        result = (
            {"error": {"code": _code(error), "message": error.message}}
            if error
            else {"response": response or {}}
        )
        self._done[name] = {"name": name, "done": True, "metadata": {}, **result}
        self._left[name] = self.polls
        return self._answer(name)

    def read(self, name: str) -> Json:
        """Raises ApiError (404)."""
        if name not in self._done:
            raise ApiError(404, f"Operation {name} was not found.")
        self._left[name] -= 1
        return self._answer(name)

    def _answer(self, name: str) -> Json:
        if self._left[name] > 0:
            return {"name": name, "metadata": {}}
        return self._done[name]


def _code(error: ApiError) -> int:
    """The number of a status in gRPC."""
    codes = {"INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "PERMISSION_DENIED": 7}
    return codes.get(error.status, 13)
