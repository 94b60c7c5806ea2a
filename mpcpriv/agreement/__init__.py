"""The signed data-sharing agreement, and whether a job is within it.

`model.py` is the agreement and `consistency.py` what its parts must be to each other; `signed.py` has its
members' signatures; `admit.py` holds a job against it; `toml.py`, `template.py`, `odrl.py` and `schema.py`
are its other forms.
"""
