"""Replaces gcloud or terraform in tests: records its calls and prints prepared answers.

It is installed under the name of the program. RECORDING is a folder. `answers.json` there is a list
of [words, text, status]; the first entry whose words all occur in the call is the answer. EVENT_ID
in a text is replaced with the event whose receipt the call names. Calls are appended to
`calls.jsonl`, one JSON array per line.
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
    called = " ".join([program, *arguments])
    for words, text, status in json.loads((folder / "answers.json").read_text()):
        if all(word in called for word in words.split()):
            receipt = re.search(r"/events/([^/ ]+)\.json", called)
            answer = text.replace("EVENT_ID", receipt[1]) if receipt else text
            print(answer, file=sys.stderr if status else sys.stdout)
            return int(status)
    return 0


if __name__ == "__main__":
    sys.exit(main())
