"""The one taxonomy of errors: class, then cause.

Each error knows its gRPC code, its HTTP status, whether another pod may help, and its metric label; a door turns it into a
status in exactly one place. A runtime's own status is an answer, not an error, and has no class here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import ClassVar


class Code(Enum):
    """gRPC status codes by number (grpc/status.h); the core must not import grpc."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


@dataclass(eq=False)
class MeshError(Exception):
    """Root of all errors of the mesh. `message` is shown to the user: it names the thing, what is wrong, and what to do."""

    message: str
    request: str = field(default="", init=False)
    """Id under which `explain` knows of it; empty as long as it has none."""

    code: ClassVar[Code] = Code.INTERNAL
    http: ClassVar[int] = 500
    elsewhere: ClassVar[bool] = False
    """Whether another pod may succeed where this one failed."""
    label: ClassVar[str] = "bug"

    def __str__(self) -> str:
        return self.message


class Invalid(MeshError):
    """The request itself is wrong; repeating it anywhere gives the same answer."""


class Rejected(MeshError):
    """The request is fine but is not taken now."""


class Unavailable(MeshError):
    """Something the request needs does not answer."""


class Failed(MeshError):
    """What was tried went wrong."""


class Malformed(Invalid):
    """The request cannot be understood."""

    code, http, label = Code.INVALID_ARGUMENT, 400, "malformed"


class Unknown(Invalid):
    """The named thing does not exist."""

    code, http, label = Code.NOT_FOUND, 404, "unknown"


class Conflict(Invalid):
    """The named thing exists with other attributes."""

    code, http, label = Code.ALREADY_EXISTS, 409, "conflict"


class Referenced(Invalid):
    """The state of the named thing forbids this."""

    code, http, label = Code.FAILED_PRECONDITION, 400, "referenced"


class Unsupported(Invalid):
    """The method or feature is not offered here."""

    code, http, label = Code.UNIMPLEMENTED, 501, "unsupported"


class TooLarge(Invalid):
    """The message is larger than the limit."""

    code, http, label = Code.RESOURCE_EXHAUSTED, 413, "too-large"


class Overloaded(Rejected):
    """An admission limit is reached."""

    code, http, elsewhere, label = Code.RESOURCE_EXHAUSTED, 429, True, "overloaded"


class QueueFull(Overloaded):
    """A copy's queue of calls is full."""

    label = "queue-full"


class DeadlineExceeded(Rejected):
    """The caller's deadline passed."""

    code, http, label = Code.DEADLINE_EXCEEDED, 504, "deadline"


class Cancelled(Rejected):
    """The caller left."""

    code, http, label = Code.CANCELLED, 499, "cancelled"


class Leaving(Rejected):
    """This pod, or the copy in use, is going away."""

    code, http, elsewhere, label = Code.UNAVAILABLE, 503, True, "leaving"


class Outlived(Leaving):
    """A call took longer than a leaving copy waits for it; elsewhere it would be made a second time."""

    elsewhere = False


class NotHere(Rejected):
    """The copy that a call was sent to is not on this pod; the sender looks further."""

    code, http, elsewhere, label = Code.INTERNAL, 503, True, "not-here"


class StoreUnavailable(Unavailable):
    """The registry does not answer."""

    code, http, label = Code.UNAVAILABLE, 503, "store"


class PeerUnavailable(Unavailable):
    """Another pod does not answer."""

    code, http, elsewhere, label = Code.UNAVAILABLE, 503, True, "peer"


class RuntimeUnavailable(Unavailable):
    """The model server does not answer; the text is pinned by clients of ModelMesh (reference 2.6)."""

    code, http, elsewhere, label = Code.INTERNAL, 500, True, "runtime"


class RuntimeDown(RuntimeUnavailable):
    """The model server is known to be down; nothing was tried, and a pod that is asked again waits for it."""


class NoRuntime(Unavailable):
    """No running pod can hold this type of model; the text is pinned (reference D.10)."""

    code, http, label = Code.INTERNAL, 503, "no-runtime"


class LoadFailed(Failed):
    """The runtime refused to load the model; the message is the failure's own text."""

    code, http, elsewhere, label = Code.INTERNAL, 500, True, "load"


class LoadTimedOut(LoadFailed):
    """The load took longer than the runtime's load timeout."""

    http, label = 504, "timeout"


class Nowhere(Failed):
    """No pod could take the model."""

    code, http, label = Code.INTERNAL, 503, "nowhere"


class Full(Nowhere):
    """What a pod holds may not be evicted; another one may have room."""

    elsewhere, label = True, "full"


class Bug(Failed):
    """An unexpected error; the message carries an id that stands in the log."""

    code, http, label = Code.INTERNAL, 500, "bug"
