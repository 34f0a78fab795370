"""`make package`: the same source gives the same archive, and the archive alone can be served.

One of them: .venv/bin/pytest tests/system/test_package.py -k serves
"""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import requests

from operate.commands import package
from operate.google.deployment import ROOT
from sandbox.functions import Function
from sandbox.stack import new_secret
from support.pubsub import Topic


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return package.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def unpacked(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked archive, and an environment with only its requirements."""
    folder = tmp_path_factory.mktemp("unpacked")
    zipfile.ZipFile(archive).extractall(folder)
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    pip = f"{folder}/env/bin/python -m pip install --quiet --no-compile --require-hashes -r"
    subprocess.run([*pip.split(), folder / "requirements.txt"], check=True)
    return folder


def test_the_same_source_gives_the_same_archive(archive: Path, tmp_path: Path) -> None:
    """Its folder, file modes, file times and compiled files make no difference."""
    for name in ("function", "requirements.txt"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copyfile
        copy(ROOT / name, tmp_path / name)
    (tmp_path / "function" / "__pycache__").mkdir(exist_ok=True)
    (tmp_path / "function" / "__pycache__" / "main.cpython-311.pyc").write_bytes(b"compiled")
    for path in (tmp_path / "function").rglob("*.py"):
        path.chmod(0o600)
        os.utime(path, (0, 0))

    again = package.build(tmp_path, tmp_path)

    assert again.name == archive.name
    assert again.read_bytes() == archive.read_bytes()


def test_a_changed_source_gives_another_archive(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "function", tmp_path / "function")
    shutil.copyfile(ROOT / "requirements.txt", tmp_path / "requirements.txt")
    with (tmp_path / "function" / "pipeline" / "logs.py").open("a") as file:
        file.write("\n")

    assert package.build(tmp_path, tmp_path).name != archive.name


def test_the_archive_contains_only_what_is_deployed(archive: Path) -> None:
    names = zipfile.ZipFile(archive).namelist()

    function = ROOT / "function"
    files = [path for path in function.rglob("*") if path.is_file()]
    deployed = [path for path in files if path.suffix != ".pyc" and path.name != "README.md"]
    expected = {path.relative_to(function).as_posix() for path in deployed} | {"requirements.txt"}
    assert set(names) == expected
    assert {"main.py", "pipeline/receive/receiver.py", "requirements.txt"} <= set(names)


def test_the_archive_alone_serves_every_entry_point(unpacked: Path, topic: Topic) -> None:
    storage = {"STORAGE_URL": f"file://{unpacked}/data"}
    api = {"DIMMY_API_KEY": "the-key-of-the-tests", "DIMMY_API_URL": "http://127.0.0.1:9"}
    settings = {
        "receive": {
            "SIGNING_SECRETS": new_secret(),
            "EVENTS_TOPIC": topic.path,
            "PUBSUB_EMULATOR_HOST": topic.host,
        },
        "resolve": api,
        "reconcile": api,
        "archive": {},
    }
    expected = {
        "receive": (400, "missing_header"),
        "resolve": (400, "malformed_envelope"),
        "reconcile": (400, "malformed_window"),
        "archive": (400, "malformed_envelope"),
    }
    functions = [
        Function(
            name,
            storage | own,
            source=unpacked / "main.py",
            python=str(unpacked / "env" / "bin" / "python"),
        )
        for name, own in settings.items()
    ]
    try:
        for function in functions:
            function.wait_until_up()
            response = requests.post(f"{function.url}?start_date=x", data=b"{}", timeout=10)
            status, error = expected[function.target]
            assert (response.status_code, response.json()["error"]) == (status, error)
    finally:
        for function in functions:
            function.stop()
