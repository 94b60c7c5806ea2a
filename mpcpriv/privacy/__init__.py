"""Differential privacy as arithmetic: what a release costs, how much noise it needs, what may be spent.

Nothing here knows of shares or parties' tables; agreements price jobs with it, and the release door adds
its noise. `loss.py` is what everything is counted in.
"""
