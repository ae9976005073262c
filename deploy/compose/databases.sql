-- Run by the image of PostgreSQL when its volume is new. `journal` is there already (POSTGRES_DB).
CREATE DATABASE mlflow OWNER neocog;
