"""The page of stored items: read only, served on loopback.

`scan` reads items, `drawing` draws their boxes, `index` keeps them in memory, `site` serves
`pages/`. The content of items is untrusted: pages get it as text, never as markup.
"""
