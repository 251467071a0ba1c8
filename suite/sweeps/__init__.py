"""A plan of many runs, and who carries it out: this machine, Ray or Slurm."""
