"""The stages of dvc.yaml, one file each: ingest, validate, prepare, synthesize, train, evaluate, export, card, promote.

No stage imports another. `artefacts` and `weights` hold what stages hand each other, `paths` names the files, `stage`
reads parameters and reports errors, `provenance` hashes what a model is made of, `tracking` records runs in MLflow.
"""
