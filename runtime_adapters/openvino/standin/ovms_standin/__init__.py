"""A stand-in for OpenVINO Model Server (OVMS), for machines without its binary: it is NOT OVMS.

Inference is real, by the OpenVINO runtime. Around it is what the mesh uses of OVMS: its flags, its configuration file, the REST calls
`/v1/config` and `/v1/config/reload`, KServe v2 and TensorFlow Serving's `Predict` over gRPC. Paths, status codes and messages are those
that OVMS documents; they were not compared with an OVMS that runs. Run by the Python of the environment `openvino`, which has nothing of
the mesh: this package imports nothing but that environment and itself.
"""
