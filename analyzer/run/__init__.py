"""The run on disk: which files it has, their tables, one writer, one reader."""
