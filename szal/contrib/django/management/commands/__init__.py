"""The management commands: ``szal``."""
