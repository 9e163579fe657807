"""The boundary for untrusted models: they are parsed in a confined process, never in the user's own.

`client` is the user's side, `server` the other: a process that has imported what opening needs and forks a worker for
each model. `confinement` takes from a worker what it does not need, `limits` says how much it may use, `opened` is what
comes back and is kept in the user's cache.
"""
