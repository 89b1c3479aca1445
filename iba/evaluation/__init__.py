"""The degradation test, and the statistics over its outcomes."""
