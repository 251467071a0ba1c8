"""Meta-World: its tasks, their goals, and many of its environments stepped in worker processes."""
