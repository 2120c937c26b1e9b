"""Flows as YAML and JSON files."""
