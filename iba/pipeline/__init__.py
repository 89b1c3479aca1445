"""The stages of the experiment; each reads the stored output of the one before it."""
