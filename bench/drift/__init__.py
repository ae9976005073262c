"""Measures what watching sees and what it does not, on pictures that the model did not train on."""
