"""What connects szal with other libraries: each module needs an extra of its own, and is imported by its users only."""
