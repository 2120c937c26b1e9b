"""The one application of the project, and its settings."""
