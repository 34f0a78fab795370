"""Cloud Storage: buckets and objects of its JSON API.

The objects are those of the XML API, in sandbox.cloud_storage. Old generations are not kept.
"""

import base64
import hashlib
from collections.abc import Sequence
from urllib.parse import quote

from sandbox.cloud_storage import CloudStorage, StoredObject
from sandbox.google_cloud.apis.api import Api
from sandbox.google_cloud.apis.uploads import Upload, read_multipart
from sandbox.google_cloud.checksums import crc32c
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.project import Project
from sandbox.google_cloud.resources import now
from sandbox.google_cloud.routes import Answer, Call, Route

_BUCKET = "v1/b/{bucket}"
_OBJECT = "v1/b/{bucket}/o/{object=**}"
_NOTIFICATIONS = f"{_BUCKET}/notificationConfigs"
_UPLOAD = "upload/storage/v1/b/{bucket}/o"


class Storage(Api):
    """`taken` are names of buckets that belong to other projects."""

    name = "storage"
    is_older = True

    def __init__(self, project: Project, xml: CloudStorage) -> None:
        super().__init__(project)
        self.taken_buckets: set[str] = set()
        self._xml = xml
        self._types: dict[str, str] = {}
        self._uploads: dict[str, Upload] = {}

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
            Route("POST", _UPLOAD, self._begin_upload),
            Route("PUT", _UPLOAD, self._continue_upload),
            Route("GET", f"{_BUCKET}/o", self._list),
            Route("GET", _OBJECT, self._read),
            Route("GET", f"download/storage/{_OBJECT}", self._download),
            Route("PATCH", _OBJECT, self._read),
            Route("DELETE", _OBJECT, self._delete_object),
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
        if self._xml.count(f"{call['bucket']}/"):
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

    # Objects

    def _list(self, call: Call) -> Json:
        bucket, prefix = call["bucket"], call.query.get("prefix", "")
        self._bucket(bucket)
        names = (name.removeprefix(f"{bucket}/") for name in sorted(self._xml.objects))
        own = [n for n in names if f"{bucket}/{n}" in self._xml.objects and n.startswith(prefix)]
        delimiter = call.query.get("delimiter")
        folders = dict.fromkeys(
            prefix + name[len(prefix) :].partition(delimiter)[0] + delimiter
            for name in own
            if delimiter and delimiter in name[len(prefix) :]
        )
        items = [n for n in own if not any(n.startswith(folder) for folder in folders)]
        return {
            "kind": "storage#objects",
            "items": [self._described(call, name) for name in items],
            "prefixes": list(folders),
        }

    def _read(self, call: Call) -> Json | Answer:
        if call.query.get("alt") == "media":
            return self._download(call)
        return self._described(call, call["object"])

    def _download(self, call: Call) -> Answer:
        found = self._object(call["bucket"], call["object"])
        headers = {
            "Content-Type": self._type(call),
            "x-goog-generation": str(found.generation),
            "x-goog-metageneration": "1",
            "x-goog-hash": f"crc32c={_crc32c(found)},md5={_md5(found)}",
        }
        first, _, last = call.headers.get("Range", "").removeprefix("bytes=").partition("-")
        if not first:
            return Answer(200, found.content, headers)
        part = found.content[int(first) : int(last) + 1 if last else None]
        size = len(found.content)
        headers["Content-Range"] = f"bytes {first}-{int(first) + len(part) - 1}/{size}"
        return Answer(206, part, headers)

    def _type(self, call: Call) -> str:
        name = f"{call['bucket']}/{call['object']}"
        return self._types.get(name, "application/octet-stream")

    def _delete_object(self, call: Call) -> Answer:
        self._object(call["bucket"], call["object"])
        del self._xml.objects[f"{call['bucket']}/{call['object']}"]
        return Answer(204)

    def _object(self, bucket: str, name: str) -> StoredObject:
        self._bucket(bucket)
        found = self._xml.objects.get(f"{bucket}/{name}")
        if not found:
            raise ApiError(404, f"No such object: {bucket}/{name}")
        return found

    def _described(self, call: Call, name: str) -> Json:
        bucket = call["bucket"]
        found = self._object(bucket, name)
        written = found.written.isoformat().replace("+00:00", "Z")
        path = f"storage/v1/b/{bucket}/o/{quote(name, safe='')}"
        media = f"http://{call.headers['Host']}/download/{path}"
        return {
            "kind": "storage#object",
            "id": f"{bucket}/{name}/{found.generation}",
            "bucket": bucket,
            "name": name,
            "generation": str(found.generation),
            "metageneration": "1",
            "contentType": self._types.get(f"{bucket}/{name}", "application/octet-stream"),
            "storageClass": "STANDARD",
            "size": str(len(found.content)),
            "md5Hash": _md5(found),
            "crc32c": _crc32c(found),
            "etag": "CAE=",
            "timeCreated": written,
            "updated": written,
            "selfLink": f"https://www.googleapis.com/{path}",
            "mediaLink": f"{media}?generation={found.generation}&alt=media",
        }

    # Uploads (https://cloud.google.com/storage/docs/uploads-downloads)

    def _begin_upload(self, call: Call) -> Json | Answer:
        self._bucket(call["bucket"])
        kind = call.query.get("uploadType")
        if kind == "resumable":
            name = call.body.get("name") or call.query["name"]
            upload = Upload(name, call.body.get("contentType", ""), call.query)
            self._uploads[upload.id] = upload
            query = f"uploadType=resumable&upload_id={upload.id}"
            url = f"http://{call.headers['Host']}/upload/storage/v1/b/{call['bucket']}/o?{query}"
            return Answer(headers={"Location": url, "X-GUploader-UploadID": upload.id})
        if kind == "multipart":
            metadata, content = read_multipart(call.headers["Content-Type"], call.content)
        else:
            metadata = {"contentType": call.headers.get("Content-Type", "")}
            content = call.content
        name = metadata.get("name") or call.query["name"]
        upload = Upload(name, metadata.get("contentType", ""), call.query)
        return self._store(call, upload, content)

    def _continue_upload(self, call: Call) -> Json | Answer:
        upload = self._uploads.get(call.query.get("upload_id", ""))
        if not upload:
            raise ApiError(404, "No such upload.")
        upload.content += call.content
        if not upload.is_complete(call.headers.get("Content-Range", "")):
            last = len(upload.content) - 1
            return Answer(308, headers={"Range": f"bytes=0-{last}"} if last >= 0 else {})
        return self._store(call, self._uploads.pop(upload.id), bytes(upload.content))

    def _store(self, call: Call, upload: Upload, content: bytes) -> Json:
        name = f"{call['bucket']}/{upload.name}"
        present = self._xml.objects.get(name)
        expected = upload.query.get("ifGenerationMatch")
        if expected is not None and int(expected) != (present.generation if present else 0):
            raise ApiError(412, "At least one of the pre-conditions you specified did not hold.")
        self._xml.put(name, content)
        if upload.content_type:
            self._types[name] = upload.content_type
        return self._described(call, upload.name)


def _md5(found: StoredObject) -> str:
    return base64.b64encode(hashlib.md5(found.content, usedforsecurity=False).digest()).decode()


def _crc32c(found: StoredObject) -> str:
    return base64.b64encode(crc32c(found.content).to_bytes(4, "big")).decode()
