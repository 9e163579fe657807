"""Between which numbers a unit stays, proven: intervals, linear relaxations, dead and constant units."""
