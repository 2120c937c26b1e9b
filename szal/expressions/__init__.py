"""The small languages: paths into JSON, conditions, templates."""
