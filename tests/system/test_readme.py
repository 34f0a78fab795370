"""Each document names what exists (commands, settings, variables, paths), and nothing else.

One of them: .venv/bin/pytest tests/system/test_readme.py -k commands
"""

import random
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pytest
import requests
from dotenv import dotenv_values

from operate.google.deployment import MODULE, ROOT
from pipeline.store.states import ReasonClass
from sandbox import catalogue
from sandbox.functions import Function
from sandbox.run import FUNCTION_SETTINGS
from sandbox.stack import start_stack
from support.waiting import wait_for
from terraform.checks import names_read

README = ROOT / "README.md"
FUNCTION, INFRA, TESTS = (ROOT / name / "README.md" for name in ("function", "infra", "tests"))
DOCUMENTS = [README, FUNCTION, INFRA, TESTS, ROOT / "tests" / "bench" / "README.md"]
ALL_TEXT = "\n".join(path.read_text() for path in DOCUMENTS)
MAKEFILE = (ROOT / "Makefile").read_text()

each_document = pytest.mark.parametrize(
    "document", DOCUMENTS, ids=[path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
)


def section(document: Path, heading: str) -> str:
    """The text below a heading, up to the next heading."""
    below = document.read_text().partition(f"\n{heading}\n")[2]
    assert below, heading
    return re.split(r"^#", below, maxsplit=1, flags=re.MULTILINE)[0]


def paragraph(document: Path, beginning: str) -> str:
    """The paragraph or the entry of a list that begins so, up to the next one."""
    below = document.read_text().partition(f"\n{beginning}")[2]
    assert below, beginning
    return re.split(r"\n\n|\n- ", below, maxsplit=1)[0]


def prose(document: Path) -> str:
    """The text without its blocks of code."""
    without_fences = re.sub(r"(?ms)^```.*?^```$", "", document.read_text())
    return re.sub(r"(?m)^ {4,}.*$", "", without_fences)


@pytest.fixture(scope="module")
def files() -> set[str]:
    """The paths of all files that are committed or will be, and their folders."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    folders = {parent.as_posix() for path in listed for parent in Path(path).parents}
    return {*listed, *folders}


def test_every_document_is_checked(files: set[str]) -> None:
    found = {ROOT / path for path in files if path.endswith("README.md")}

    assert found == set(DOCUMENTS)


@each_document
def test_no_line_is_over_120_characters(document: Path) -> None:
    assert [line for line in document.read_text().splitlines() if len(line) > 120] == []


def test_the_readme_is_read_in_ten_minutes() -> None:
    assert len(README.read_text().splitlines()) <= 150


# Links


def anchors(document: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a document."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    lowered = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in lowered}


@each_document
def test_every_link_and_picture_leads_to_something(document: Path, files: set[str]) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", prose(document))

    assert targets
    for target in targets:
        if target.startswith(("https://", "http://")):
            continue
        name, _, anchor = target.partition("#")
        path = (document.parent / name).resolve() if name else document
        assert path.relative_to(ROOT).as_posix() in files, target
        if anchor:
            assert anchor in anchors(path), target


@each_document
def test_every_path_that_is_named_exists(document: Path, files: set[str]) -> None:
    """Those that begin with a folder at the top."""
    top = {path.partition("/")[0] for path in files if "/" in path}
    quoted = re.findall(r"`([\w.][\w./*-]*/[\w./*-]*)`", prose(document))
    named = {path for path in quoted if path.partition("/")[0] in top}

    missing = {path for path in named if not list(ROOT.glob(_as_pattern(path)))}
    assert missing <= {"infra/.terraform.lock.hcl"}, "Terraform writes this one"


def _as_pattern(path: str) -> str:
    """A path of the documents as a pattern; ENV stands for the name of an environment."""
    return path.rstrip("/").replace("ENV", "*")


def test_every_picture_is_shown_and_small(files: set[str]) -> None:
    pictures = {path for path in files if path.startswith(".images/")}

    shown = re.findall(r"!\[[^\]]+\]\((?:\.\./)?(\.images/[^)]+)\)", ALL_TEXT)
    assert set(shown) == pictures
    for picture in pictures:
        assert (ROOT / picture).stat().st_size < 200_000, picture


# Commands


def targets_of_the_makefile() -> dict[str, str]:
    """The help of each command."""
    return dict(re.findall(r"^([a-z-]+):.*?## (.+)$", MAKEFILE, re.MULTILINE))


@each_document
def test_only_commands_that_exist_are_named(document: Path) -> None:
    named = re.findall(r"(?:`|^ *|= |or )make ([a-z-]+)\b", document.read_text(), re.MULTILINE)

    assert set(named) <= targets_of_the_makefile().keys()


def test_the_table_of_commands_is_the_help_of_the_makefile() -> None:
    rows = re.findall(r"(?m)^\| `make ([a-z-]+)` \| (.+) \|$", section(README, "## Commands"))

    assert dict(rows) == targets_of_the_makefile()
    assert len(rows) == len(dict(rows))


def test_every_variable_that_the_makefile_exports_is_explained() -> None:
    exported = set(re.findall(r"^export ([A-Z ]+)$", MAKEFILE, re.MULTILINE))
    names = {name for line in exported for name in line.split()}

    assert {"ENV", "PROJECT", "QUERY"} <= names
    for name in names:
        assert re.search(rf"\b{name}=", ALL_TEXT), f"{name} is not explained"


# Settings


@pytest.mark.parametrize("entry_point", ["receive", "resolve", "reconcile", "archive"])
def test_settings_match_those_that_the_functions_read(entry_point: str) -> None:
    table = section(FUNCTION, "## Settings")
    rows = re.findall(r"^\| ((?:`[A-Z_]+`(?:, )?)+) \| ([a-z, ]+) \|", table, re.MULTILINE)
    explained = {
        name
        for names, used_by in rows
        for name in re.findall(r"`([A-Z_]+)`", names)
        if used_by == "all" or entry_point in used_by
    }

    assert explained == names_read(entry_point)


def test_the_settings_of_make_run_match_those_that_it_passes_on() -> None:
    text = paragraph(TESTS, "It takes ")
    named = set(re.findall(r"`([A-Z_]+)", text))
    own = {"PORT", "PUBSUB", "DATA", "PHOTOS"}
    of_the_api = {"SIGNING_SECRETS", "DIMMY_API_KEY", "DIMMY_API_URL"}

    assert named == {*own, *of_the_api, *FUNCTION_SETTINGS}


def test_the_example_of_env_has_only_settings_of_make_run() -> None:
    text = (ROOT / ".env.example").read_text()
    in_comments = set(re.findall(r"^# ([A-Z_]+)=", text, re.MULTILINE))
    named = {*dotenv_values(ROOT / ".env.example"), *in_comments}

    assert named <= set(re.findall(r"`([A-Z_]+)", paragraph(TESTS, "It takes ")))


# Terraform


def declared(file: Path) -> set[str]:
    return set(re.findall(r'^variable "(\w+)"', file.read_text(), re.MULTILINE))


def test_every_terraform_variable_is_explained() -> None:
    variables = declared(MODULE / "variables.tf") | declared(ROOT / "infra" / "variables.tf")
    of_the_commands = {"project", "archive", "secret_versions"}
    text = section(INFRA, "### What can be set")
    rows = re.findall(r"^\| ((?:`[a-z_]+`(?:, )?)+) \|", text, re.MULTILINE)
    explained = [name for row in rows for name in re.findall(r"`(\w+)`", row)]

    assert sorted(explained) == sorted(variables - of_the_commands)
    assert of_the_commands <= set(re.findall(r"`(\w+)`", text.partition("\n\nDimmy's API")[2]))


def test_every_field_of_an_item_subscriber_is_explained() -> None:
    text = (MODULE / "variables.tf").read_text().partition('variable "item_subscribers"')[2]
    fields = re.findall(r"^    (\w+) += ", text.partition("}))")[0], re.MULTILINE)

    explained = section(INFRA, "#### Items for other systems")
    assert "endpoint" in fields
    for name in fields:
        assert re.search(rf"\b{name}\b", explained), name


def test_every_example_of_a_query_is_mentioned() -> None:
    explained = section(INFRA, "#### Items for other systems")
    for path in (MODULE / "views" / "examples").glob("*.sql"):
        words = path.stem.split("_")
        assert path.name in explained or all(
            word in explained for word in words if len(word) > 2
        ), path.name


# The tree


def test_the_tree_lists_every_package_and_only_existing_paths() -> None:
    """Each line of the tree names a path relative to the line above with less indentation."""
    folders = {0: ROOT}
    named = set()
    lines = re.findall(r"^    ( *)(\S+)  ", section(TESTS, "## Where things are"), re.MULTILINE)
    for indentation, path in lines:
        folder = next(folders[n] for n in range(len(indentation), -1, -1) if n in folders)
        assert list(folder.glob(path.rstrip("/"))), path
        folders = {n: f for n, f in folders.items() if n <= len(indentation)}
        folders[len(indentation) + 1] = folder / path.partition("*")[0]
        named.add((folder / path.rstrip("/")).relative_to(ROOT).as_posix())

    packages = {
        module.parent.relative_to(ROOT).as_posix()
        for folder in ("function", "infra/operate")
        for module in (ROOT / folder).rglob("*.py")
    }
    assert packages - {"function/pipeline"} <= named


# Log lines

_ABOUT_THE_LINE = {"severity", "message"}
_NOT_IN_THESE_LINES = {
    "receive": {"reason"},
    "resolve": {"discarded"},
    "reconcile": {"began_at", "warning"},
    "archive": set(),
}


@pytest.fixture(scope="module")
def fields_logged(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, set[str]]:
    """By function, the fields of its lines about attempts that succeed and that fail."""
    lines: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
    wide = {"webhook": "receive", "event": "resolve", "photos": "archive"}

    def add(function: str, line: dict[str, Any]) -> None:
        if wide.get(line["message"].partition(" ")[0]) == function:
            lines[function].append(line)

    folder = tmp_path_factory.mktemp("stack")
    with start_stack(folder, photos=True, on_log=add) as stack:
        assert stack.api
        rng = random.Random(1)
        item = catalogue.make_item(rng, photos=1, photo_url_prefix=stack.api.photo_url_prefix)
        foreign = catalogue.make_item(rng, photos=1, photo_url_prefix="https://example.com/")
        for each in (item, foreign):
            assert stack.send({"item_ids": [stack.api.put(each)]}).delivered
        assert stack.send({"item_ids": ["0" * 24]}).delivered
        wait_for(lambda: _outcomes(lines["resolve"]) >= {"done", "partial"}, "both outcomes")
        wait_for(lambda: _outcomes(lines["archive"]) >= {"archived", "refused"}, "the photos")
        lines["reconcile"] = list(_reconcile(stack.resolve.settings))
    return {
        name: {field for line in of_function for field in line} - _ABOUT_THE_LINE
        for name, of_function in lines.items()
    }


def _outcomes(lines: Sequence[Mapping[str, Any]]) -> set[str]:
    return {str(line["outcome"]) for line in lines}


def _reconcile(settings: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The lines of two windows, of which the second one is not finished."""
    lines: list[dict[str, Any]] = []
    unreachable = {"DIMMY_API_URL": "http://127.0.0.1:9", "ATTEMPT_SECONDS": "1"}
    for changed in ({}, unreachable):
        function = Function("reconcile", {**settings, **changed}, on_log=lines.append)
        try:
            function.wait_until_up()
            requests.post(f"{function.url}?hours=1", timeout=60)
        finally:
            function.stop()
    for line in lines:
        if line["message"] in {"reconcile done", "reconcile unfinished"}:
            yield line


@pytest.mark.parametrize("function", ["receive", "resolve", "reconcile", "archive"])
def test_the_fields_of_log_lines_are_those_that_are_logged(
    function: str, fields_logged: Mapping[str, set[str]]
) -> None:
    text = paragraph(FUNCTION, f"- `{function}` writes one for each ")
    # What is within brackets or after a colon are values, not fields.
    names = re.sub(r"\(`[^)]*\)|: `not_found`[^.]*|`DEBUG`", "", text)
    documented = set(re.findall(r"`(\w+)`", names))

    assert documented == fields_logged[function] | _NOT_IN_THESE_LINES[function]


def test_the_reasons_of_attempts_are_all_listed() -> None:
    text = paragraph(FUNCTION, "- `resolve` writes one for each ")
    listed = set(re.findall(r"`(\w+)`", text.partition("`reason_class`:")[2].partition(".")[0]))

    assert listed == set(get_args(ReasonClass))
