"""The site of a run."""
