"""Which build a pod is, as a number that grows: newer pods are preferred for new copies (reference 9.1)."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime
from pathlib import Path

from mesh.settings import Settings

log = logging.getLogger(__name__)

_FORMS = (
    (re.compile(r".+-(?P<day>\d{8})-(?P<count>\d+)"), "%Y%m%d"),
    (re.compile(r"(?P<day>\d{8}-\d{4})(?:-(?P<count>\d+))?"), "%Y%m%d-%H%M"),
)


def build_version(settings: Settings) -> int:
    """The number of `SERVICE_VERSION` or, if that is not set, of the file beside it; 0 if there is neither, or none that can be read."""
    text = settings.version.strip() or _of_file(settings.version_file)
    if not text:
        return 0
    number = number_of(text)
    if number is None:
        log.warning("the build version is neither NAME-YYYYMMDD-N nor YYYYMMDD-HHMM[-N]; it counts as 0", extra={"version": text[:100]})
    return number or 0


def number_of(text: str) -> int | None:
    """Milliseconds since the epoch of the day or minute in a version, in UTC, plus its last number; None for another form."""
    for form, layout in _FORMS:
        match = form.fullmatch(text)
        if match is None:
            continue
        try:
            day = datetime.strptime(match["day"], layout).replace(tzinfo=UTC)
        except ValueError:
            return None
        return int(day.timestamp()) * 1000 + int(match["count"] or 0)
    return None


def _of_file(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        log.warning("the file of the build version cannot be read", extra={"path": str(path), "cause": str(error)})
        return ""
