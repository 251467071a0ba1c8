"""What the rows mean: pure functions of data frames."""
