"""The page of stored items: read only, served on loopback.

`scan` reads items, `drawing` draws their boxes, `index` keeps them in memory, `photos`
reads archived photos, `site` serves `pages/`. The content of items is untrusted: pages get it as
text, never as markup, and photos only as images or downloads.
"""
