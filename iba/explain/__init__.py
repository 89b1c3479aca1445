"""Explaining one's own texts: scores, and how they are shown."""
