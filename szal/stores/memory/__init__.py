"""The store that lives in this process."""
