"""What szal costs, against floors and against other engines, in one run: ``python -m benchmarks --help``."""
