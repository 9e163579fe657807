"""One module a command: its options become a request, the request is run, and the result is printed."""
