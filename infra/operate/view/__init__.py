"""The page of stored items and of events: read only, served on loopback.

`scan` reads items, `drawing` draws their boxes, `newest` finds the newest objects, `index` keeps
them in memory, `photos` reads archived photos, `events` lists events, `stories` reads single ones,
and `site` serves `pages/`. The content of items is untrusted: pages get it as text, never as
markup, and photos only as images or downloads.
"""
