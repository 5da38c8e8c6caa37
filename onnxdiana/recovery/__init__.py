"""What wins accuracy back without changing the arithmetic."""
