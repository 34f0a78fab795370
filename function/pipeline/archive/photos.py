"""The photos of an item, and the names under which they are stored."""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pipeline.json_text import objects_in

_SAFE_SEGMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HASH_CHARACTERS = 16
# Parameters of presigned links of S3, CloudFront, Cloud Storage and Azure
_SIGNATURE = re.compile(
    r"(x-amz-[^=]*|awsaccesskeyid|signature|expires|policy|key-pair-id|x-goog-[^=]*|googleaccessid"
    r"|sig|se|st|sp|sv|sr|spr|sip|ske|skoid|sks|skt|sktid|skv)(=|$)",
    re.IGNORECASE,
)
_NAME = re.compile(rf"[0-9a-f]{{{_HASH_CHARACTERS}}}(-{_SAFE_SEGMENT.pattern})?")


@dataclass(frozen=True, slots=True)
class Photo:
    """A photo as an item has it: an address, which may have any type, and its name in storage."""

    name: str
    address: object = field(repr=False)


def photos_of(item: Mapping[str, Any]) -> list[Photo]:
    """The photos of all steps of a decoded item, each name once.

    Where several addresses have the same name, they differ in their signatures, and the last one
    counts: the newest signature.
    """
    photos = [
        Photo(name_of(photo.get("url")), photo.get("url"))
        for step in objects_in(item.get("photographing"))
        for photo in objects_in(step.get("photos"))
    ]
    return list({photo.name: photo for photo in photos}.values())


def name_of(address: object) -> str:
    """The name of the photo with this address, which may be anything.

    A hash of what identifies the photo (its path, and its query without a signature), and the last
    part of the path where that is safe: `6f1f0c1d64dd4a5b-67c861dc45b0e6fb32ff2ca1`. Neither
    another host nor another photo of the item changes it.
    """
    path, query = _parts(address)
    identity = f"{path}?{query}" if query else path
    digest = hashlib.sha256(identity.encode(errors="surrogatepass")).hexdigest()[:_HASH_CHARACTERS]
    segment = path.rpartition("/")[2]
    return f"{digest}-{segment}" if _SAFE_SEGMENT.fullmatch(segment) else digest


def is_name(text: str) -> bool:
    """Whether the text has the form of a photo's name, which becomes part of an object's name."""
    return _NAME.fullmatch(text) is not None


def _parts(address: object) -> tuple[str, str]:
    """Path and query of an address, without a signature, which differs each time."""
    if not isinstance(address, str):
        return "", ""
    try:
        parts = urlsplit(address)
    except ValueError:
        return re.split("[?#]", address)[0], ""
    parameters = [each for each in parts.query.split("&") if each and not _SIGNATURE.match(each)]
    return parts.path, "&".join(parameters)
