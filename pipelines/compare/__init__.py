"""The line-up, a pipeline of its own (`make compare`): all classifiers on the same images, one table, one picture."""
