"""`mpcpriv demo`: three hospitals train one model, and nobody sees a row that is not their own.

In reading order: `table` (the data, and who holds what of it), `training` (regression on shares),
`hospital` (what every party runs), `story` (starts it, compares with scikit-learn, tells what happened).
"""
