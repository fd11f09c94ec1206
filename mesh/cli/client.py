"""The command's side of the control socket of a mesh on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import httpx
import typer

from mesh.core.errors import Failed, Malformed, MeshError, Unavailable, Unknown
from mesh.local import state
from mesh.local.state import Context

MeshOption = Annotated[
    Path | None,
    typer.Option("--mesh", metavar="DIR", help="The mesh with this data folder; without it the current one.", envvar="MESH_DIR"),
]
_BY_STATUS: dict[int, type[MeshError]] = {400: Malformed, 404: Unknown}


class Control:
    """Requests to one running mesh. Every method raises the `MeshError` that the mesh answered, or Unavailable if it does not answer."""

    def __init__(self, context: Context) -> None:
        self.context = context
        # Nothing here is TLS, and to read the authorities' certificates for it would take longer than most commands.
        transport = httpx.HTTPTransport(uds=state.socket_address(Path(context.socket)), verify=False)
        self._http = httpx.Client(transport=transport, base_url="http://mesh", timeout=60.0)

    @classmethod
    def find(cls, data: Path | None) -> Control:
        """Of the mesh with that data folder, or of the current one. Unknown if it does not run."""
        return cls(state.find(data))

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()

    def get(self, path: str, **params: Any) -> Any:
        """A GET."""
        return self._ask("GET", path, params={name: value for name, value in params.items() if value not in (None, "")})

    def model(self, name: str) -> Any:
        """All that is known of one model."""
        return self.get(f"models/{quote(name, safe='')}")

    def post(self, path: str, body: Any = None) -> Any:
        """A POST of JSON."""
        return self._ask("POST", path, json=body)

    def delete(self, path: str) -> Any:
        """A DELETE."""
        return self._ask("DELETE", path)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        try:
            answer = self._http.request(method, f"/v1/{path}", **options)
        except httpx.HTTPError as error:
            raise Unavailable(
                f"the mesh does not answer ({self.context.named()}): {str(error) or type(error).__name__}; it may be starting or ending"
            ) from None
        if answer.is_success:
            return answer.json()
        try:
            message = str(answer.json()["error"])
        except (ValueError, KeyError, TypeError):
            message = f"the mesh answered {answer.status_code}: {answer.text[:300]}; see {self.context.data}/logs/mesh.log"
        raise _BY_STATUS.get(answer.status_code, Failed)(message)
