"""Models: how a classifier is run up to a layer and from a layer on."""
