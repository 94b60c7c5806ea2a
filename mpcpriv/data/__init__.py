"""A party's own tables: read, checked against the agreement's terms, never shown.

`source.py` reads a table from wherever `declared.py` says that it is, by one file for each kind; all of them
give `cells.py`. `checks.py` types and checks them. `held.py` is a table in a job, in memory or read anew;
`scale.py` says how a column's numbers lie in the ring, from its agreed bounds.
"""
