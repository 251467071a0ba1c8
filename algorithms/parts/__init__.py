"""What methods are put together from: networks, layers, units, optimisers, random numbers."""
