"""What a digit classifier is: pictures, networks, the released bundle. Knows nothing of DVC, MLflow or HTTP."""

import os

# From 1.29 on, ONNX Runtime's Linux wheels tell Microsoft which models they load, unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
