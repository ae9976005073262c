"""What a digit classifier is: pictures, networks, the released bundle. Knows nothing of DVC, MLflow or HTTP."""
