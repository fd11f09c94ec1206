"""What an object store's refusal means: the library's exceptions as the adapter's errors."""

from __future__ import annotations

import re

from runtime_adapters.errors import AdapterError, Damaged, Denied, Missing, NotConfigured, Unreachable

_STATUS = re.compile(r"non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>([^<]*)</Code>|\"code\": ?\"([^\"]*)\"|x-ms-error-code: ?(\S+)")
_SAID = re.compile(r"<Message>([^<]*)</Message>")
_NO_CONTAINER = frozenset(["NoSuchBucket", "ContainerNotFound"])
_BROKEN_BODY = ("kind: Interrupted", "kind: Decode", "response body error", "error decoding response body")
_NO_ANSWER = ("kind: Connect", "kind: Timeout", "kind: Request", "error sending request", "kind: Unknown")


def translate(error: Exception, place: str, path: str) -> AdapterError:
    """The adapter's error for an exception of the object store library.

    Args:
        error: what was raised; its text is all there is to tell a refused password from an unplugged cable.
        place: the bucket or container, as the message shall name it.
        path: the object or directory that was asked for.
    """
    text = str(error)
    status = int(found[1]) if (found := _STATUS.search(text)) else 0
    code = next(filter(None, found.groups())) if (found := _CODE.search(text)) else ""
    said = f" ({' - '.join(filter(None, (code, _message(text))))})" if code else ""
    name = type(error).__name__
    if status in (401, 403) or name in ("PermissionDeniedError", "UnauthenticatedError"):
        return Denied(f"{place} refuses access to {path!r}{said or f' (HTTP status {status})'}; check its credentials and permissions")
    if status == 404 or isinstance(error, FileNotFoundError):
        return missing_place(place) if code in _NO_CONTAINER else Missing(f"{path!r} does not exist in {place}{said}")
    if name == "PreconditionError" or status == 412:
        return Damaged(f"{path!r} in {place} changed while it was being downloaded; load the model again")
    if status == 429 or status >= 500:
        return Unreachable(f"{place} answers with HTTP status {status}{said}")
    if status:
        return NotConfigured(f"{place} refuses the request for {path!r} with HTTP status {status}{said or f': {_first_line(text)}'}")
    if any(sign in text for sign in _BROKEN_BODY):
        return Damaged(f"the download of {path!r} from {place} broke off before its end")
    if any(sign in text for sign in _NO_ANSWER):
        return Unreachable(f"{place} cannot be reached: {_reason(text)}")
    return AdapterError(f"{place} failed for {path!r}: {_first_line(text)}")


def missing_place(place: str) -> Missing:
    """The bucket or container itself is not there."""
    return Missing(f"{place} does not exist")


def _message(text: str) -> str:
    return found[1].splitlines()[0][:200] if (found := _SAID.search(text)) and found[1] else ""


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:300]


def _reason(text: str) -> str:
    """The innermost words that a person can use, such as `Connection refused`."""
    inner = re.findall(r"message: \"([^\"]+)\"|error: \"?([^\",\n]+)\"?,?\n|(dns error|operation timed out)", text)
    words = [next(filter(None, groups)) for groups in inner]
    return words[-1] if words else _first_line(text)
