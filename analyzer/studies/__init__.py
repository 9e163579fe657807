"""What may be asked of a run beside pictures and maps: a module or a folder a study, one contract."""
