"""OpenVINO Model Server: models are listed in one file, which the server reads again on request."""
