"""The suite: how the algorithms are fed, measured and recorded."""
