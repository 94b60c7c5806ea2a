"""A party's own tables: read, checked against the agreement's terms, never shown.

`source.py` reads a file; `scale.py` says how a column's numbers lie in the ring, from its agreed bounds.
"""
