"""Cloud Storage: objects and uploads of its JSON API.

They are those of the XML API, in sandbox.cloud_storage. Old generations are not kept.
"""

import base64
import hashlib
from collections.abc import Callable, Sequence
from urllib.parse import quote

from sandbox.cloud_storage import CloudStorage, StoredObject
from sandbox.google_cloud.apis.uploads import Upload, read_multipart
from sandbox.google_cloud.checksums import crc32c
from sandbox.google_cloud.errors import ApiError, Json
from sandbox.google_cloud.routes import Answer, Call, Route

_OBJECTS = "v1/b/{bucket}/o"
_OBJECT = "v1/b/{bucket}/o/{object=**}"
_UPLOAD = "upload/storage/v1/b/{bucket}/o"


class Objects:
    """`bucket` returns a bucket by its name, or raises ApiError (404)."""

    def __init__(self, xml: CloudStorage, bucket: Callable[[str], Json]) -> None:
        self._xml = xml
        self._bucket = bucket
        self._types: dict[str, str] = {}
        self._uploads: dict[str, Upload] = {}

    def routes(self) -> Sequence[Route]:
        return [
            Route("POST", _UPLOAD, self._begin_upload),
            Route("PUT", _UPLOAD, self._continue_upload),
            Route("GET", _OBJECTS, self._list),
            Route("GET", _OBJECT, self._read),
            Route("GET", f"download/storage/{_OBJECT}", self._download),
            Route("PATCH", _OBJECT, self._read),
            Route("DELETE", _OBJECT, self._delete_object),
        ]

    def count(self, bucket: str) -> int:
        """The number of objects in a bucket."""
        return self._xml.count(f"{bucket}/")

    def _list(self, call: Call) -> Json:
        bucket, prefix = call["bucket"], call.query.get("prefix", "")
        self._bucket(bucket)
        own, token = self._xml.page_of(bucket, call.query)
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
            **({"nextPageToken": token} if token else {}),
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
