"""`mpcpriv demo`: three hospitals train one model under a signed agreement, each by its own daemon.

In reading order: `table` (the data, and who holds what of it), `study` (the agreement and the jobs),
`site` (four parties in a folder, their daemons, and their end), `measure` (the model beside scikit-learn's),
`story` (tells what happens).
"""
