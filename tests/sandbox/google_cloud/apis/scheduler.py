"""Cloud Scheduler: jobs, which never run by themselves."""

from collections.abc import Sequence

from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.errors import Json
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Call, Route

_JOB = "v1/{name=projects/*/locations/*/jobs/*}"


class Scheduler(Api):
    name = "cloudscheduler"
    missing = "Job not found."
    taken = "Job {name} already exists."

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", "v1/{parent=projects/*/locations/*}/jobs", self._create),
            Route("GET", "v1/{parent=projects/*/locations/*}/jobs", self._list),
            Route("GET", _JOB, lambda call: self.resources.get(call["name"])),
            Route("PATCH", _JOB, self._update),
            Route("DELETE", _JOB, self._delete),
            Route("POST", f"{_JOB}:run", lambda call: self.resources.get(call["name"])),
            Route("POST", f"{_JOB}:pause", lambda call: self._set(call, "PAUSED")),
            Route("POST", f"{_JOB}:resume", lambda call: self._set(call, "ENABLED")),
        ]

    def set_last_attempt(self, job_id: str, time: str, code: int = 0) -> None:
        """Set when a job ran last, and the gRPC code of its result (0 for success)."""
        (name,) = [name for name in self.resources.names() if name.endswith(f"/jobs/{job_id}")]
        status = {"code": code} if code else {}
        self.resources.get(name).update({"lastAttemptTime": time, "status": status})

    def _create(self, call: Call) -> Json:
        state = {"state": "ENABLED", "userUpdateTime": now()}
        return self.resources.create(call.body["name"], call.body | state)

    def _list(self, call: Call) -> Json:
        return {"jobs": self.resources.below(f"{call['parent']}/jobs")}

    def _update(self, call: Call) -> Json:
        changes = call.body | {"name": call["name"]}
        return self.resources.patch(call["name"], changes, call.update_mask)

    def _set(self, call: Call, state: str) -> Json:
        job = self.resources.get(call["name"])
        job["state"] = state
        return job

    def _delete(self, call: Call) -> Json:
        self.delete(call["name"])
        return {}
