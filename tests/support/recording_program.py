"""Replaces gcloud or terraform in tests: records its calls and prints prepared answers.

It is installed under the name of the program. RECORDING is a folder. `answers.json` there is a list
of [words, text, status] or [words, text, status, times]; the first entry whose words all occur in
the call, and that has not been given so many times, is the answer. EVENT_ID in a text is replaced
with the event whose receipt the call names. Calls are appended to `calls.jsonl`, one JSON array per
line; the access tokens that Terraform gets, to `tokens`.
"""

import json
import os
import re
import sys
from pathlib import Path


def main() -> int:
    """Record the call and answer it."""
    folder = Path(os.environ["RECORDING"])
    arguments = sys.argv[1:]
    stdin = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read()
    program = Path(sys.argv[0]).name
    with (folder / "calls.jsonl").open("a") as calls:
        calls.write(json.dumps([program, *arguments, stdin]) + "\n")
    if program == "terraform" and (token := os.environ.get("GOOGLE_OAUTH_ACCESS_TOKEN")):
        with (folder / "tokens").open("a") as tokens:
            tokens.write(f"{token}\n")
    called = " ".join([program, *arguments])
    for number, entry in enumerate(json.loads((folder / "answers.json").read_text())):
        words, text, status, *times = entry
        if all(word in called for word in words.split()) and _is_left(folder, number, times):
            receipt = re.search(r"/events/([^/ ]+)\.json", called)
            answer = text.replace("EVENT_ID", receipt[1]) if receipt else text
            is_json = "-json" in arguments  # then Terraform prints its errors as lines of JSON
            print(answer, file=sys.stderr if status and not is_json else sys.stdout)
            return int(status)
    return 0


def _is_left(folder: Path, number: int, times: list[int]) -> bool:
    """Whether an answer can still be given; counts it."""
    if not times:
        return True
    counter = folder / f"given-{number}"
    given = len(counter.read_text()) if counter.exists() else 0
    if given == times[0]:
        return False
    counter.write_text("x" * (given + 1))
    return True


if __name__ == "__main__":
    sys.exit(main())
