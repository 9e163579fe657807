"""Proven bounds of units: intervals, linear relaxations, dead and constant units."""
