"""One's own daemon, from Python: sign and submit jobs, decide about them, watch them, fetch results.

In reading order: `view.py` (what is known of a job), `control.py` (the daemon's Control service, and its
failures in words), `connection.py` (what `mpcpriv.connect` gives), `show.py` (progress in a terminal or a
notebook).
"""
