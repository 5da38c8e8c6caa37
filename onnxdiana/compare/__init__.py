"""Where a device's dump departs from the vectors, and the likeliest cause."""
