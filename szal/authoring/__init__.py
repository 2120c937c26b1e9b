"""Flows written as functions: `szal.Flow`."""
