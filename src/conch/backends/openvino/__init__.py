"""The OpenVINO backend: `backend: "openvino"`."""
