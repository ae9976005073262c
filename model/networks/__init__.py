"""The classifiers: the network that is served, and what it has to beat."""
