"""ONNX Runtime that sends nothing to Microsoft, which its packages do by default since 1.29. Import it from here."""
import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded

import onnxruntime  # noqa: E402, F401
