"""Meta-World: its tasks, their goals, and many of its environments stepped in worker processes."""

OBSERVATION_SIZE = 39
"""Numbers in an observation of every task."""
ACTION_SIZE = 4
"""Numbers in an action: three of the hand's movement, one of the gripper."""
EVALUATION_ENVS = 5
"""Envs per task in evaluation."""
PRESET_GOALS = 50
"""Goals per task in Meta-World's benchmarks."""
