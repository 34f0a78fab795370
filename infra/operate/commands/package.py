"""`make package`: one archive of everything that is deployed, the same for the same source.

It holds the Python files of `function/`, and `requirements.txt`: Cloud Functions looks for
`main.py` and `requirements.txt` at the top. The order, times and modes of files are fixed, and
nothing is compressed, because the output of zlib differs between machines. So the hash of the
archive, which is its name, identifies the version of the software.
"""

import hashlib
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

from rich.console import Console

from operate.console import print_text
from operate.google.deployment import BUILD, ROOT

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can store
_PLAIN_FILE = 0o100644
_UNIX = 3


def run(_: Mapping[str, str], console: Console) -> int:
    """Build the archive and print its path."""
    archive = build(BUILD)
    print_text(console, f"{archive} ({archive.stat().st_size:,} bytes)")
    return 0


def build(folder: Path, source: Path = ROOT) -> Path:
    """Write the archive of the source into a folder; return its path."""
    archive = _archive(source)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"dimmy-{hashlib.sha256(archive).hexdigest()[:16]}.zip"
    path.write_bytes(archive)
    return path


def _archive(source: Path) -> bytes:
    function = source / "function"
    files = {path.relative_to(function).as_posix(): path for path in function.rglob("*.py")}
    files["requirements.txt"] = source / "requirements.txt"
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr = _PLAIN_FILE << 16
            entry.create_system = _UNIX
            opened.writestr(entry, files[name].read_bytes())
    return archive.getvalue()
