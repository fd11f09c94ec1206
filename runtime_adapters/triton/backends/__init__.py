"""Python-based backends for a Triton that has only its Python backend, and the folder that it finds them in.

Triton takes `<backend folder>/<name>/model.py` for a backend called `<name>`. So the libraries that its own backends are made of serve
untouched model repositories: Triton still reads and checks them, completes their configurations, and schedules the calls. The files
`*/model.py` run in Triton's environment, not in this one.
"""
