"""Pages of runs: static, readable offline, made from the run on disk alone."""
