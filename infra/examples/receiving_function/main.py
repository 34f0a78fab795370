"""An HTTP function to which a subscription of the items topic is pushed (`item_subscribers`).

Messages come at least once and in any order. So it keeps the newest version of each item and, of
two with the same time, the one that was published last; and it answers 2xx only after the write:
Pub/Sub pushes the message again until then. Here the database is a file of SQLite, so that the
example runs anywhere.
"""

import base64
import contextlib
import json
import os
import sqlite3
from datetime import datetime

import flask
import functions_framework

COLUMNS = "item_id PRIMARY KEY, updated_at, published_at, barcode, volume_l, weight_g, item"
NEWEST_WINS = """
    INSERT INTO items
    VALUES (:item_id, :updated_at, :published_at, :barcode, :volume_l, :weight_g, :item)
    ON CONFLICT (item_id) DO UPDATE SET
        updated_at = excluded.updated_at, published_at = excluded.published_at,
        barcode = excluded.barcode, volume_l = excluded.volume_l, weight_g = excluded.weight_g,
        item = excluded.item
    WHERE (ifnull(items.updated_at, ''), items.published_at)
        < (ifnull(excluded.updated_at, ''), excluded.published_at)
"""


@functions_framework.http
def receive_items(request: flask.Request) -> tuple[str, int]:
    """Store the item of one message, unless a newer version of it is stored."""
    message = request.get_json()["message"]
    # Always with six digits of a second: Pub/Sub leaves out zeros, and texts are compared.
    published_at = datetime.fromisoformat(message["publishTime"]).isoformat(timespec="microseconds")
    item = json.loads(base64.b64decode(message["data"])) | {"published_at": published_at}
    with contextlib.closing(sqlite3.connect(os.environ["DATABASE"])) as database, database:
        database.execute(f"CREATE TABLE IF NOT EXISTS items ({COLUMNS})")
        database.execute(NEWEST_WINS, item)
    return "", 204
