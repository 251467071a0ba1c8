"""Stacks of modules whose wiring is routed (D2R) or bred (MEGA)."""
