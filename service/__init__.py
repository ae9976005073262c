"""The FastAPI application that serves a bundle. Knows nothing of torch, MLflow or DVC."""
