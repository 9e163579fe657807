"""How a unit is maximised and measured: canvas, objectives, meter."""
