"""What each unit sees in a data set of the user's: one pass measures, a second shows."""
