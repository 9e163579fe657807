"""From an opened network and the user's images to a run on disk: what each unit responds to, and how sure that is."""
