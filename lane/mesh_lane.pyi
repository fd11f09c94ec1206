"""The express lane. It runs in threads of this process, which take calls without the interpreter."""

from collections.abc import Sequence
from typing import final

__version__: str

Rule = tuple[Sequence[int], bool, bool, Sequence[int]]
"""Path where callers name the model, whether that is an alias, whether headers come first, path where the runtime wants the id."""
Rules = tuple[Sequence[tuple[str, Rule]], Rule | None, Sequence[str]]
"""Of methods (`pkg.Service/Method`), of all others (None: they are Python's), and the services and methods that are Python's."""
Destination = tuple[Sequence[tuple[str, int]], str]
"""Models and their weights, which add up to 100, the stable one last; a header whose value decides among them (empty: by chance)."""
Match = tuple[Sequence[tuple[str, str, str]], float | None]
"""Headers (name, `exact`, `prefix` or `present`, value; `true` and `false` of the latter), and the percentage of calls that have them."""
Sharing = tuple[Sequence[tuple[Sequence[Match], Destination]], Destination]
"""Rules, the first of which that a call is like (by any of the matches, each in all) decides, and where all other calls go."""
Counted = tuple[str, str, str, int, tuple[int, int, int, int], list[int], list[int], list[int], str]
"""Model, alias (or empty), method, gRPC code; calls, bytes in and out (of bodies), microseconds of all; calls by `times`, by bytes
in and, those that answered something, by bytes out, each one number more than there are bounds; and the way: `here` is
from a client to this pod's copy, `there` to another pod's, `hop` from another pod to this pod's."""

@final
class Copy:
    """One copy of a model and the account of the lane's calls, and where calls have turns of those of both planes. `Lane.copy` makes it."""

    def ask(self) -> int:
        """What a call of the Python plane gets, also on a copy that was closed: 0 is a place, above it is its ticket in the line, in which
        the lane's callers stand too, below 0 there are too many."""
    def give_back(self) -> None:
        """A call of the Python plane with a place is over."""
    def give_up(self, ticket: int, /) -> None:
        """A call of the Python plane leaves the line, or does not take the place that it was granted."""
    def granted(self) -> list[int]:
        """Tickets whose turn has come since this was asked last; where a call of the lane left its place, `Lane.fileno` is readable."""
    def adopt(self, calls: int, /) -> None:
        """So many calls of the Python plane have places already."""
    def times(self) -> tuple[int, int, list[int], int]:
        """Of the lane's calls on a copy with a limit since this was asked last: how many left it, and their microseconds there; all by
        the time they waited for their turn, one number more than `times` of the lane has bounds, and the microseconds of that."""
    def close(self) -> None:
        """Lets no call of the lane begin any more; those in line become Python's. Once `calls` is 0 it stays so, and `Lane.fileno`
        is readable."""
    def end(self, why: str) -> None:
        """Ends the lane's calls that are under way with UNAVAILABLE and this text; after `close`."""
    @property
    def closed(self) -> bool: ...
    @property
    def calls(self) -> int:
        """Calls of the lane under way."""
    @property
    def waiting(self) -> int:
        """Calls of the lane that wait for their turn."""
    @property
    def last_used(self) -> int:
        """When a call last began, in milliseconds since the epoch; 0 for never."""
    def set_limit(self, limit: int, queue: int, /) -> None:
        """So many calls at a time, and so many that wait, of a copy that was made with a limit."""
    def set_load(self, load: int) -> None:
        """Calls that others are known to make on it; they count where the less busy copy is chosen."""

@final
class Tls:
    """What ports show to those who connect, and ask of them; TLS 1.2 and 1.3.

    Args:
        key, chain: PEM; the key is not encrypted.
        clients: whether these show a certificate: NONE, OPTIONAL or REQUIRE. One that is shown is checked.
        trust: PEM of those who sign clients' certificates, or of these themselves.

    Raises:
        ValueError: the lane cannot use them; says why.
    """

    def __init__(self, key: bytes, chain: bytes, *, clients: str = "NONE", trust: bytes | None = None) -> None: ...
    def replace(self, key: bytes, chain: bytes, *, clients: str = "NONE", trust: bytes | None = None) -> None:
        """Shows something else to those who connect from now on; what cannot be used changes nothing. Errors as of the class."""

@final
class PeerTls:
    """What other pods are shown, and whom is believed to be one.

    Args:
        key, chain, trust: PEM; the key is not encrypted.
        name: that the certificates of pods have.

    Raises:
        ValueError: the lane cannot use them; says why.
    """

    def __init__(self, key: bytes, chain: bytes, trust: bytes, name: str) -> None: ...
    def replace(self, key: bytes, chain: bytes, trust: bytes, name: str) -> None:
        """Shows something else on connections that are made from now on; what cannot be used changes nothing. Errors as of the class."""

@final
class Busy:
    """How busy a pod is, as far as is known: `mesh.core.routing.neighbourhood.Busy`, which both planes keep."""

    @property
    def own(self) -> int: ...
    @property
    def turn(self) -> int: ...
    @property
    def lru_time(self) -> int: ...
    @property
    def behind(self) -> int: ...
    def began(self) -> None: ...
    def ended(self) -> None: ...
    def calls(self, now: int, /) -> int: ...
    def reported(self, calls: int, lru_time: int, at: int, now: int, /) -> None: ...

@final
class Gate:
    """Counts calls of clients, on both planes, and lets in so many: `mesh.pod.admission.Gate`."""

    @property
    def calls(self) -> int: ...
    def set_most(self, most: int, /) -> None: ...
    def enter(self) -> bool: ...
    def leave(self) -> None: ...

@final
class Peer:
    """Another pod. `Lane.peer` makes it; it is not called before it is told where it listens."""

    @property
    def busy(self) -> Busy: ...
    def moved(self, address: str | None, *, aside: bool = False) -> None:
        """Where it listens (`host:port`), and whether calls of it are known not to get through. What the lane found out by itself, that
        it does not answer, is forgotten."""
    def copy(self, *, tried: str = "") -> Copy:
        """A copy that it has; `tried` as of `Lane.copy`."""

@final
class Lane:
    """Listens as soon as it is made; every call is Python's until something is published.

    Args:
        listen: IP address and port for clients; port 0 takes a free one, None takes none before `listen` is called.
        python: where the Python door listens: `host:port` or `unix:/path`.
        workers: threads.
        max_message: bytes of a request message.
        max_headers: bytes of a request's headers.
        max_streams: calls at a time on one connection.
        max_kept: bytes of a request that are kept so that it can be handed to Python when its copy fails; at least 128 KiB.
        silence: seconds after which a silent client is asked for a sign of life, and in which that has to come.
        silence_of_pods: the same of pods that are called.
        connect_limit: seconds in which a connection comes about or has failed.
        max_age, max_age_grace: seconds after which a client is asked to connect anew, and that its calls then have; 0 for no limit.
        times: bounds of the histogram of times, in microseconds, ascending.
        sizes: bounds of those of bodies' bytes; a message's body has 5 bytes more than the message.
        rest: IP address and port for REST clients, and where the Python door for them listens; None leaves REST to Python. A door on a Unix
            socket is told who calls, before the first request (PROXY protocol 2).
        tls: of both ports of clients; None for plaintext.
        tls_of_peers: of the port of other pods; None for plaintext.
        peer_tls: towards other pods; None for plaintext.
        me: the id of this pod.
        key: goes beside what the Python door for REST is told of attempts, so that it knows who says it; empty: it is told nothing.

    Raises:
        OSError: the address cannot be had.
        ValueError: `listen` or `rest` is no address, or a number of seconds is negative.
    """

    def __init__(
        self,
        listen: str | None,
        python: str,
        *,
        workers: int = 1,
        max_message: int = ...,
        max_headers: int = ...,
        max_streams: int = ...,
        max_kept: int = ...,
        silence: float = ...,
        silence_of_pods: float = ...,
        connect_limit: float = ...,
        max_age: float = ...,
        max_age_grace: float = ...,
        times: Sequence[int] = ...,
        sizes: Sequence[int] = ...,
        rest: tuple[str, str] | None = None,
        tls: Tls | None = None,
        tls_of_peers: Tls | None = None,
        peer_tls: PeerTls | None = None,
        me: str = "",
        key: str = "",
    ) -> None: ...
    @property
    def address(self) -> str:
        """Where clients call; empty if that was left to `listen`."""
    @property
    def rest_address(self) -> str | None:
        """Where REST clients call; None if REST is not the lane's."""
    def listen(self, who: str, at: str, python: str) -> str:
        """Takes connections at a further address, which other processes may share, and answers the bound one.

        Args:
            who: calls there: `clients` or other pods, `peers`, over gRPC, or `rest`.
            at: IP address and port; port 0 takes a free one.
            python: where the Python door for them listens; that for clients is the one that the lane was made with.

        Raises:
            OSError: the address cannot be had.
            ValueError: `at` is no address.
        """
    @property
    def busy(self) -> Busy:
        """How busy this pod is."""
    @property
    def gate(self) -> Gate: ...
    def set_oldest(self, at: int) -> None:
        """What other pods are told of when the least recently used model was last used, in milliseconds since the epoch."""
    def peer(self, id: str) -> Peer: ...
    def fileno(self) -> int:
        """Readable when a version was taken over, a closed copy has no call left, or the turn of a call of the Python plane has come."""
    def quiet(self) -> None:
        """Makes `fileno` unreadable until something is new."""
    def copy(
        self,
        address: str,
        *,
        tried: str = "",
        weight: int = 1,
        limit: int = 0,
        queue: int = 0,
        busy: Busy | None = None,
    ) -> Copy:
        """A copy of this pod that `publish` takes.

        Args:
            address: of the model server beside this router, `host:port` or `unix:/path`.
            tried: what the Python door is told, as `mm-lane-tried`, of a call that failed here.
            weight: how much it takes on beside others.
            limit: calls at a time, of both planes; 0 for any number.
            queue: calls that may wait for their turn, in one line; any further is Python's.
            busy: where its calls count beside its own account; None: nowhere else.
        """
    def publish(
        self,
        *,
        models: Sequence[tuple[str, Sequence[Copy]]] = ...,
        no_models: Sequence[str] = ...,
        aliases: Sequence[tuple[str, str | None]] = ...,
        no_aliases: Sequence[str] = ...,
        shared: Sequence[tuple[str, Sharing]] = ...,
        rules: Rules | None = None,
    ) -> int:
        """Changes the table, and answers the version that this makes; it waits for nobody.

        Args:
            models: with their ready copies, in place of those published before.
            no_models: are not resident any more.
            aliases: with their models; None says that calls of the alias are Python's, also where a model has its name.
            no_aliases: exist no more.
            shared: aliases whose calls are shared among models, in place of `aliases`. A call that goes to one that is not resident, or by
                a header that is no plain text, is Python's.
            rules: of methods, in place of all published before.

        Raises:
            ValueError: what is shared names a header or a comparison that is none, or no model; nothing is changed.
        """
    @property
    def acknowledged(self) -> int:
        """The version that every worker has: no call begins by an older one."""
    def collect(self) -> list[Counted]:
        """What was counted since the last time, of calls that the lane answered itself."""
    def stop(self, grace: float) -> list[Counted]:
        """Takes no new calls, and returns when the last one is over, or after `grace` seconds; answers what was counted last."""

Wanted = tuple[dict[str, tuple[bool | None, bool]], bool, bool]
"""How outputs are to be answered: by name, as raw bytes (None: as all others) and BYTES as base64; then the same two of all outputs."""

def transcode_request(body: bytes, json: int | None = None, *, model: str = "", version: str = "") -> tuple[bytes, Wanted] | None:
    """A REST request's `ModelInferRequest`, serialised, and how it is to be answered; None if it is the Python door's.

    Args:
        body: JSON, and raw tensors behind it.
        json: bytes of the JSON; None if that is all.
        model, version: what the path names.
    """

def transcode_answer(message: bytes, wanted: Wanted) -> tuple[bytes, int | None] | None:
    """The REST body of a serialised `ModelInferResponse`, and the length of its JSON if raw tensors follow; None if it is odd."""
