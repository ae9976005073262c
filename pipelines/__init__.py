"""The stages of dvc.yaml: ingest, validate, prepare, synthesize, labels, train, evaluate, export, card, promote.

Each is a file. `feedback` is no stage: it reads the journal. None of these imports another. `artefacts`, `labelled` and
`weights` hold what they hand each other, `paths` names the files, `stage` reads parameters and reports errors,
`provenance` hashes what a model is made of, `tracking` records runs in MLflow.
"""
