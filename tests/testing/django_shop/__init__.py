"""A Django project whose tests test flows: `cases`, which `test_django` has pytest run."""
