"""The line-up (`make compare`): a separate pipeline that judges all classifiers on the same images."""
