"""A folder for the search path of another Python: `ovms_standin` in it is run by the environment of the OpenVINO runtime."""
