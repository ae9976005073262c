"""The stages of dvc.yaml, one file each: ingest, validate, prepare, train, evaluate, export, promote."""
