"""Loads the public signature cases: requests, secrets, and the expected result of each."""

import json
from pathlib import Path
from typing import Any

SIGNATURE_CASES: dict[str, Any] = json.loads(
    Path(__file__).with_name("signature_cases.json").read_text()
)
