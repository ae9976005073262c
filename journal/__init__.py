"""The record of production, in SQL: every prediction, and every label that a person sent.

`service` writes it (`writer`), `pipelines` reads it (`queries`). SQLite by default, PostgreSQL by URL.
"""
