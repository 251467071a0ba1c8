"""One run trained: the loop, its replay, gradient steps, evaluations and measurements."""
