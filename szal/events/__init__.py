"""What happens and what handlers report, published to whoever listens."""
