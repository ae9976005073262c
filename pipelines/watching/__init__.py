"""What `pipelines.watch` is made of.

`state` counts, `sessions` thins, `journal` reads and commits, `summary` judges, `report` and `charts` draw,
`outputs` writes files and answers HTTP.
"""
