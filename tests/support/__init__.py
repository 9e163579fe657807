"""What tests share: networks, runs and pictures made for them, and readers of what is written."""
