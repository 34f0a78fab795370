"""The parts of an upload to Cloud Storage."""

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.google_cloud.errors import Json


@dataclass
class Upload:
    """An upload; a resumable one gets its content in several requests."""

    name: str
    content_type: str
    query: Mapping[str, str]
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    content: bytearray = field(default_factory=bytearray)

    def is_complete(self, content_range: str) -> bool:
        """Whether a request with this range was the last one; `*` is a size not known yet."""
        total = content_range.rpartition("/")[2]
        return not total or (total != "*" and int(total) == len(self.content))


def read_multipart(content_type: str, body: bytes) -> tuple[Json, bytes]:
    """The metadata and the content of a body of the type multipart/related."""
    found = re.search(r"""boundary=["']?([^"';]+)""", content_type)
    assert found, content_type
    parts = [_after_headers(part) for part in body.split(b"--" + found[1].encode())[1:-1]]
    return json.loads(parts[0]), parts[1]


def _after_headers(part: bytes) -> bytes:
    """The content of a part, whose lines end with or without a carriage return."""
    found = re.search(rb"\r?\n\r?\n", part)
    assert found
    return re.sub(rb"\r?\n\Z", b"", part[found.end() :])
