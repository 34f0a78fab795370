"""Cloud Storage: buckets, their policies and notifications, of its JSON API."""

from collections.abc import Sequence

from sandbox.cloud_storage import CloudStorage
from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.objects import Objects
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Answer, Call, Route

_BUCKET = "v1/b/{bucket}"
_NOTIFICATIONS = f"{_BUCKET}/notificationConfigs"


class Storage(Api):
    """`taken_buckets` are names of buckets that belong to other projects."""

    name = "storage"
    is_older = True

    def __init__(self, project: Project, xml: CloudStorage) -> None:
        super().__init__(project)
        self.taken_buckets: set[str] = set()
        self._objects = Objects(xml, self._bucket)

    def routes(self) -> Sequence[Route]:
        return [
            Route("GET", "v1/projects/{project}/serviceAccount", self._agent),
            Route("POST", "v1/b", self._create),
            Route("GET", "v1/b", lambda _: {"items": [self.resources.get(n) for n in self._all()]}),
            Route("GET", _BUCKET, lambda call: self._bucket(call["bucket"])),
            Route("PATCH", _BUCKET, self._update),
            Route("PUT", _BUCKET, self._update),
            Route("DELETE", _BUCKET, self._delete),
            Route("GET", f"{_BUCKET}/iam", self._policy),
            Route("PUT", f"{_BUCKET}/iam", self._set_policy),
            Route("GET", f"{_BUCKET}/iam/testPermissions", self._test_permissions),
            Route("POST", _NOTIFICATIONS, self._create_notification),
            Route("GET", _NOTIFICATIONS, self._list_notifications),
            Route("GET", f"{_NOTIFICATIONS}/{{id}}", self._notification),
            Route("DELETE", f"{_NOTIFICATIONS}/{{id}}", self._delete_notification),
            Route("GET", f"{_BUCKET}/anywhereCaches/", lambda _: {"items": []}),
            *self._objects.routes(),
        ]

    def missing_error(self, name: str) -> ApiError:
        if name in self.taken_buckets:
            return ApiError(
                403,
                "The caller does not have storage.buckets.get access to the Google Cloud Storage"
                " bucket. Permission 'storage.buckets.get' denied on resource (or it may not"
                " exist).",
            )
        return ApiError(404, "The specified bucket does not exist.")

    def taken_error(self, name: str) -> ApiError:  # noqa: ARG002
        return ApiError(
            409,
            "Your previous request to create the named bucket succeeded and you already own it.",
        )

    def _all(self) -> list[str]:
        return [name for name in self.resources.names() if "/" not in name]

    def _bucket(self, name: str) -> Json:
        return self.resources.get(name)

    def _agent(self, _: Call) -> Json:
        return {
            "kind": "storage#serviceAccount",
            "email_address": self.project.create_agent("gs-project-accounts"),
        }

    def _create(self, call: Call) -> Json:
        name, location = call.body["name"], call.body.get("location", "US")
        if name in self.taken_buckets:
            raise ApiError(
                409,
                "The requested bucket name is not available. The bucket namespace is shared by all"
                " users of the system. Please select a different name and try again.",
            )
        self._check_location(location)
        is_region = "-" in location
        defaults = {
            "kind": "storage#bucket",
            "id": name,
            "projectNumber": self.project.number,
            "storageClass": "STANDARD",
            "locationType": "region" if is_region else "multi-region",
            "metageneration": "1",
            "etag": "CAE=",
            "timeCreated": now(),
            "updated": now(),
            "selfLink": f"https://www.googleapis.com/storage/v1/b/{name}",
        }
        return self.resources.create(name, defaults | call.body | {"location": location.upper()})

    def _check_location(self, location: str) -> None:
        if not self.project.allows_location(location):
            raise ApiError(
                412, f"'{location.lower()}' violates constraint 'constraints/gcp.resourceLocations'"
            )

    def _update(self, call: Call) -> Json:
        return self.resources.patch(call["bucket"], call.body)

    def _delete(self, call: Call) -> Answer:
        self._bucket(call["bucket"])
        if self._objects.count(call["bucket"]):
            raise ApiError(409, "The bucket you tried to delete is not empty.")
        self.delete(call["bucket"])
        return Answer(204)

    def _policy(self, call: Call) -> Json:
        return self.project.policies.read(self.policy_key(call["bucket"]))

    def _set_policy(self, call: Call) -> Json:
        try:
            return self.project.policies.write(self.policy_key(call["bucket"]), call.body)
        except ApiError as error:
            if error.status == "FAILED_PRECONDITION":
                raise ApiError(412, error.message) from error
            raise

    def _test_permissions(self, call: Call) -> Json:
        return {"permissions": call.repeated("permissions")}

    # Notifications

    def _create_notification(self, call: Call) -> Json:
        self._bucket(call["bucket"])
        topic = call.body["topic"].removeprefix("//pubsub.googleapis.com/")
        self.project.resources["pubsub"].get(topic)
        publishers = self.project.policies.members(f"pubsub/{topic}", "roles/pubsub.publisher")
        if not any("@gs-project-accounts." in member for member in publishers):
            raise ApiError(
                403,
                "The service account of Cloud Storage does not have permission to publish messages"
                f" to the Cloud Pub/Sub topic {call.body['topic']}, or that topic does not exist.",
            )
        collection = f"{call['bucket']}/notificationConfigs"
        number = str(len(self.resources.below(collection)) + 1)
        link = f"https://www.googleapis.com/storage/v1/b/{collection}/{number}"
        notification = call.body | {"id": number, "selfLink": link, "etag": "1"}
        return self.resources.create(f"{collection}/{number}", notification)

    def _list_notifications(self, call: Call) -> Json:
        return {"items": self.resources.below(f"{call['bucket']}/notificationConfigs")}

    def _notification(self, call: Call) -> Json:
        name = f"{call['bucket']}/notificationConfigs/{call['id']}"
        if name not in self.resources:
            raise ApiError(404, f"Not Found: notification {call['id']}")
        return self.resources.get(name)

    def _delete_notification(self, call: Call) -> Answer:
        self._notification(call)
        self.resources.delete(f"{call['bucket']}/notificationConfigs/{call['id']}")
        return Answer(204)
