"""What szal does in each case. Every file has CASES: the subjects, by case and label."""
