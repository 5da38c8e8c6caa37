"""Estimates of cycles, energy and memory of one layer on DIANA, from the public analytical models of the chip."""
