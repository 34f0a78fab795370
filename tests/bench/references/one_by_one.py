"""Fetches items as the vendor's sample does: sequentially, with `requests.get`.

    python -m bench.references.one_by_one URL KEY ID...

Prints the seconds and the CPU seconds that it took.
"""

import json
import sys
import time

import requests


def main() -> None:
    """Fetch every id on the command line."""
    url, key, *item_ids = sys.argv[1:]
    started, cpu_started = time.perf_counter(), time.process_time()
    for item_id in item_ids:
        requests.get(f"{url}/items/{item_id}", headers={"X-API-KEY": key}, timeout=60).json()
    json.dump([time.perf_counter() - started, time.process_time() - cpu_started], sys.stdout)


if __name__ == "__main__":
    main()
