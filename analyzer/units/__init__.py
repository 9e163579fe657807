"""What a unit is asked for and measured by: canvas, objectives, the meter."""
