"""A run on disk: its directory, checkpoints, rows, progress and trackers."""
