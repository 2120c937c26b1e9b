"""Runs plans: one loop, one thread that coordinates, workers that call handlers. Knows no store."""
