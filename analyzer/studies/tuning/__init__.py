"""What each unit answers to simple stimuli, and what may be said of its selectivity."""
