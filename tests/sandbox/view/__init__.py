"""`make view`: a read-only page of the items in a folder or a bucket, for people who develop.

scan.py reads items, drawing.py draws their boxes, index.py keeps them in memory, site.py serves
pages/ on loopback. Items are strangers' words: pages get them as text, and never as markup.
"""
