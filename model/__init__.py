"""The digit classifier: pictures, networks, and the released bundle. It knows nothing of DVC, MLflow or HTTP."""

import os

# Since 1.29, ONNX Runtime's Linux wheels report to Microsoft which models they load. Setting this before the import
# prevents it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
