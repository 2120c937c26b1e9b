"""Shell scripts with placeholders: where each stands, and whether a value is data there."""
