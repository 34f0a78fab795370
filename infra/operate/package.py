"""`make package`: one archive with everything that is deployed, the same for the same source.

It holds the content of `function/`, and `requirements.txt`: Cloud Functions looks for `main.py` and
`requirements.txt` at the top. Order, times and modes are fixed and nothing is compressed (zlib's
output differs from one machine to the next), so its hash tells one version of the software from
another; it is the archive's name.
"""

import hashlib
import io
import sys
import zipfile
from pathlib import Path

from rich.console import Console

from operate.cloud import BUILD, ROOT
from operate.console import run

_EARLIEST = (1980, 1, 1, 0, 0, 0)  # that a zip can say
_PLAIN_FILE = 0o100644
_UNIX = 3


def main() -> int:
    return run(_package)


def _package(console: Console) -> int:
    archive = build(BUILD)
    console.print(f"{archive} ({archive.stat().st_size:,} bytes)", markup=False, soft_wrap=True)
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


if __name__ == "__main__":
    sys.exit(main())
