"""The management commands: ``szal``, ``szal_worker``."""
