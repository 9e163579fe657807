"""One request a command: everything that decides its result, checked at birth, for the command line and for Python."""
