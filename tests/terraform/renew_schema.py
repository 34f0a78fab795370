"""`make provider-schema`: updates `schema.json` from Terraform's google provider.

It calls `terraform providers schema`, for which the provider has to be installed in `infra/`:
`terraform -chdir=infra init -backend=false` does that. `schema.json` has only the types that
`infra/` uses, without descriptions.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from operate.google.deployment import INFRA
from terraform.provider import SCHEMA, SOURCE

Json = dict[str, Any]

# Only former versions of `infra/` have them: an upgrade deletes what they created.
_FORMER_TYPES = {"google_storage_notification"}


def main() -> int:
    try:
        done = subprocess.run(
            ["terraform", f"-chdir={INFRA}", "providers", "schema", "-json"],
            capture_output=True,
            text=True,
            check=True,
        )
    except FileNotFoundError:
        print("Terraform is not installed: https://developer.hashicorp.com/terraform/install")
        return 2
    except subprocess.CalledProcessError as error:
        print(error.stderr.strip())
        print("Run `terraform -chdir=infra init -backend=false` first.")
        return 1
    schema = next(
        schema
        for name, schema in json.loads(done.stdout)["provider_schemas"].items()
        if name.endswith(SOURCE)
    )
    reduced = reduce_schema(schema, used_in(INFRA))
    SCHEMA.write_text(as_text(reduced))
    counts = {kind: len(reduced[kind]) for kind in ("resource_schemas", "data_source_schemas")}
    print(f"{SCHEMA.name}: {counts}")
    return 0


def used_in(folder: Path) -> dict[str, set[str]]:
    """The types of resources and of data sources in a folder's configuration and its modules.

    With those that were in it formerly.
    """
    text = "\n".join(path.read_text() for path in folder.rglob("*.tf"))
    return {
        kind: set(re.findall(rf'^{word} "(google_\w+)"', text, re.MULTILINE)) | former
        for kind, word, former in (
            ("resource_schemas", "resource", _FORMER_TYPES),
            ("data_source_schemas", "data", set[str]()),
        )
    }


def reduce_schema(schema: Json, used: dict[str, set[str]]) -> Json:
    """The schema of these types only, without descriptions.

    Raises:
        KeyError: the provider does not have one of them.
    """
    reduced = {
        kind: {name: _without_descriptions(schema[kind][name]) for name in sorted(names)}
        for kind, names in used.items()
    }
    return reduced | {"provider": _without_descriptions(schema["provider"])}


def as_text(schema: Json) -> str:
    """One line for each type, so that the diff of an update shows which types changed."""
    lines = [f'"provider":{_compact(schema["provider"])}']
    for kind in ("resource_schemas", "data_source_schemas"):
        entries = [f'"{name}":{_compact(entry)}' for name, entry in sorted(schema[kind].items())]
        lines.append(f'"{kind}":{{\n' + ",\n".join(entries) + "\n}")
    return "{\n" + ",\n".join(lines) + "\n}\n"


def _compact(node: Any) -> str:
    return json.dumps(node, separators=(",", ":"), sort_keys=True)


def _without_descriptions(node: Any) -> Any:
    if isinstance(node, dict):
        return {
            name: _without_descriptions(value)
            for name, value in node.items()
            if not (name.startswith("description") and isinstance(value, str))
        }
    return node


if __name__ == "__main__":
    sys.exit(main())
