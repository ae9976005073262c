"""The classifiers: the network that is served, and those it is compared with."""
