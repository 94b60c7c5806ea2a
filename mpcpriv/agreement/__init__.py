"""The signed data-sharing agreement, and whether a job is within it.

`model.py` is the agreement; `signed.py` an agreement with its members' signatures; `admit.py` holds a job
against it; `odrl.py` is the same as an ODRL policy.
"""
