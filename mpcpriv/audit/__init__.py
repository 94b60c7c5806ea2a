"""What a member did, in a log that nobody can quietly change, its owner included.

`receipt.py` is a peer's signature over the head of a log; `events.py` what can be told; `entry.py` one line
of a log; `verify.py` finds what was done to a log; `log.py` writes one. docs/audit.md is the format.
"""
