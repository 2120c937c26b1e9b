"""Executions from their first record to their last: what a program calls."""
