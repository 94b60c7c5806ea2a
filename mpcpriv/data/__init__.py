"""A party's own tables: read, checked against the agreement's terms, never shown.

`source.py` reads a file; `scale.py` is how a column's numbers lie in the ring, which the agreement's bounds say.
"""
