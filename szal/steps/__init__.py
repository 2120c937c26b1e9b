"""Which function does which step; the step types that szal brings."""
