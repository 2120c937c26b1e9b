"""A store seen through one ordered background writer."""
