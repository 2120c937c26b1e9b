"""The least that each case costs in plain Python. Every file has CASES: the subjects, by case and label."""
