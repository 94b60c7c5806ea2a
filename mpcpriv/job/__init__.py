"""The declared job: what is asked, by whom, of which data, released to whom. Pure data, no I/O.

`model.py` is the job; `signed.py` a job with its submitter's signature; `toml.py` the file.
"""
