"""An exact and faster twin of Meta-World's environments, verified bit for bit."""
