"""Run in another framework's process, each by itself: they import nothing of ours but their neighbours."""
