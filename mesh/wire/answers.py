"""What a status of the runtime means to the mesh (reference 2.6)."""

from __future__ import annotations

from mesh.core.errors import Code, MeshError, RuntimeUnavailable
from mesh.wire.call import RuntimeStatus


def not_here(status: RuntimeStatus) -> bool:
    """Whether the runtime says that it does not have the model: by code, or in Triton's or MLServer's words."""
    text = status.details
    match status.code:
        case Code.NOT_FOUND:
            return True
        case Code.UNAVAILABLE:
            return text.startswith("Request for unknown model") and text.endswith((" is not found", " has no available versions"))
        case Code.INVALID_ARGUMENT:
            return text.startswith("Model ") and text.endswith(" not found")
        case _:
            return False


def error_of(method: str, status: RuntimeStatus) -> MeshError | None:
    """The mesh's error for a status that is none of the runtime's own; None for an answer that passes as it is."""
    if status.code is Code.UNAVAILABLE and not not_here(status):
        return RuntimeUnavailable(f"ModelRuntime UNAVAILABLE: {method}: {status}")
    return None
