"""The packages of the deployed code: required directly, and no more of them loaded than needed.

One of them: .venv/bin/pytest tests/shared/test_requirements.py -k lazy
"""

import ast
import importlib
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from operate.google.deployment import ROOT
from pipeline.lazy_packages import import_only

FUNCTION = ROOT / "function"
# Each package, and the name that the deployed code must import from it.
PACKAGES = {
    "functions-framework": "functions_framework.aio",
    "svix": "svix.webhooks.Webhook",
    "requests": "requests",
    "google-cloud-pubsub": "google.pubsub_v1.types",
}


def imported_names() -> set[str]:
    """Every module and name that the deployed code imports, with dots."""
    names = set()
    for path in FUNCTION.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def run(code: str, *path: Path) -> str:
    """Run code in a new interpreter; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={"PYTHONPATH": ":".join(map(str, [FUNCTION, *path]))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("package", PACKAGES)
def test_each_package_is_required_directly_and_imported_by_deployed_code(package: str) -> None:
    required = re.findall(r"^([\w-]+)", (ROOT / ".requirements.in").read_text(), re.MULTILINE)
    pinned = re.findall(r"^([\w-]+)==", (ROOT / "requirements.txt").read_text(), re.MULTILINE)

    assert package in required
    assert package in pinned
    assert PACKAGES[package] in imported_names()


def test_everything_that_deployed_code_imports_is_a_direct_requirement() -> None:
    required = re.findall(r"^([\w-]+)", (ROOT / ".requirements.in").read_text(), re.MULTILINE)
    provided = {
        "cloudevents": "functions-framework",
        "flask": "functions-framework",
        "functions_framework": "functions-framework",
        "google.api_core": "google-api-core",
        "google.auth": "google-auth",
        "google.cloud": "google-cloud-pubsub",
        "google.pubsub_v1": "google-cloud-pubsub",
        "grpc": "grpcio",
        "gunicorn": "functions-framework",
        "httptools": "httptools",
        "obstore": "obstore",
        "requests": "requests",
        "starlette": "functions-framework",
        "svix": "svix",
        "uvicorn": "functions-framework",
        "urllib3": "requests",
        "werkzeug": "functions-framework",
    }
    for name in imported_names():
        top = ".".join(name.split(".")[:2]) if name.startswith("google.") else name.split(".")[0]
        if top not in sys.stdlib_module_names and top != "pipeline":
            assert provided[top] in required, name


def test_receive_loads_none_of_the_api_clients() -> None:
    loaded = run(
        """
        import sys
        import pipeline.receive.receiver
        print(*sys.modules)
        """
    ).split()

    assert {"svix.webhooks", "google.pubsub_v1.types.pubsub"} <= set(loaded)
    clients = ("svix.api", "google.pubsub_v1.services", "google.cloud.", "google.api_core")
    assert [name for name in loaded if name.startswith(clients)] == []


def test_a_lazy_package_gives_the_classes_of_the_plain_import() -> None:
    run(
        """
        from pipeline.receive import publisher, verification
        import svix
        import google.pubsub_v1
        from google.cloud import pubsub_v1

        assert verification.Webhook is svix.Webhook
        assert svix.api.Svix is svix.Svix
        assert publisher.types.PubsubMessage is google.pubsub_v1.PubsubMessage
        assert publisher.types.PubsubMessage is pubsub_v1.types.PubsubMessage
        assert issubclass(pubsub_v1.PublisherClient, google.pubsub_v1.PublisherClient)
        """
    )


def test_a_package_that_is_already_imported_stays_unchanged() -> None:
    svix = importlib.import_module("svix")

    import_only("svix", "webhooks")

    assert sys.modules["svix"] is svix
    assert importlib.import_module("svix.webhooks").Webhook is svix.Webhook


LAYOUTS = {
    "a package": {
        "pack/__init__.py": "raise AssertionError('run')",
        "pack/part.py": "VALUE = 1",
    },
    "a module that needs its package": {
        "pack/__init__.py": "BASE = 1\nfrom .part import VALUE",
        "pack/part.py": "from pack import BASE\nVALUE = BASE",
    },
    "a module that needs another one": {
        "pack/__init__.py": "raise AssertionError('run')",
        "pack/part.py": "from pack import other\nVALUE = other.VALUE",
        "pack/other.py": "VALUE = 1",
    },
    "no __init__": {"pack/part.py": "VALUE = 1"},
    "one module": {"pack.py": "import sys\npart = sys.modules['pack.part'] = sys\nsys.VALUE = 1"},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_module_is_imported_from_any_layout_of_its_package(layout: str, tmp_path: Path) -> None:
    for name, text in LAYOUTS[layout].items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)

    printed = run(
        """
        from pipeline.lazy_packages import import_only
        import_only("pack", "part")
        %s
        from pack.part import VALUE
        print(VALUE)
        """
        % ("import pack" if layout == "one module" else ""),
        tmp_path,
    )

    assert printed == "1\n"


def test_a_missing_package_fails_as_with_a_plain_import() -> None:
    run(
        """
        from pipeline.lazy_packages import import_only
        import_only("missing_package", "part")
        import_only("missing_package.part", "part")
        try:
            import missing_package
        except ModuleNotFoundError:
            pass
        else:
            raise AssertionError
        """
    )
