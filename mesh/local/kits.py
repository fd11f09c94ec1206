"""What the pods of each runtime are made of on this machine, how many there are to be, and why a runtime has none."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from mesh.core.errors import Conflict, Malformed, MeshError
from mesh.local import images, servers
from mesh.local.environments import Environment
from mesh.local.environments import find as find_environment
from mesh.local.images import Image, Images
from mesh.local.servers.base import Server, Telling
from mesh.local.servers.custom import Custom
from mesh.manifests.documents import AnyRuntime
from mesh.manifests.runtimes import PodPlan, pod_plan

DEFAULT = "mlserver-1.x"
"""The runtime of a mesh that is told nothing else."""

ADAPTER_FIXED = (
    *("ADAPTER_PORT", "ADAPTER_SOCKET", "RUNTIME_PORT", "RUNTIME_DATA_ENDPOINT", "CONTAINER_MEM_REQ_BYTES", "ROOT_MODEL_DIR"),
    *("STORAGE_CONFIG_DIR", "PVC_MOUNTS_DIR", "USE_EMBEDDED_PULLER", "PORT", "MODEL_SERVER_ENDPOINT"),
)
"""Variables of an adapter that a document cannot choose on a machine that pods share."""


@dataclass(frozen=True)
class Share:
    """Pods of one runtime: so many at the start, and up to `most` as the pods themselves want."""

    least: int
    most: int


@dataclass(frozen=True)
class Kit:
    """What a pod of a runtime is made of. A pod whose kit differs from its runtime's is outdated."""

    plan: PodPlan
    server: Server
    image: Image | None
    environment: Environment


@dataclass(frozen=True)
class Wanted:
    """A runtime that is to have pods.

    Attributes:
        kit: None if `missing` says why no pod can be made.
        notes: what of its document is not taken over on this machine.
        warning: what serves here is not what the document means.
    """

    share: Share
    kit: Kit | None
    missing: str = ""
    notes: tuple[str, ...] = ()
    warning: str = ""


def kit(document: AnyRuntime, found: Images, environments: Mapping[str, Path]) -> Kit:
    """What its pods are made of.

    Args:
        environments: those that are made already and to be used, by the name of their list.

    Raises:
        Malformed: the document makes no pod anywhere.
        Missing: its image has no folder here, or one that is not what it has to be.
    """
    plan = pod_plan(document)
    place = f"{document.kind} {document.name}"
    known = servers.find(plan.server_type, place) if plan.server_type else None
    try:
        image = found.find(plan.image)
    except Malformed as error:
        raise Missing(error.message) from None
    if image is None and (known is None or not images.is_known(plan.image)):
        raise Missing(
            f"image {plan.image or 'none'}: no folder here stands for it, and an image needs a container engine; name one with "
            f"`mesh image set {plan.image}=DIR`, or `mesh up --image {plan.image}=DIR` (docs/runtimes.md says what is in it)"
        )
    server: Server
    if known:
        server = known
    else:
        assert image
        server = Custom(plan, image)
    of_image = image and (image.environment or image.requirements or not server.environment)
    try:
        needed = image.needs(server.environment) if image and of_image else find_environment(server.environment)
    except Malformed as error:
        raise Missing(error.message) from None
    if needed.name in environments:
        needed = replace(needed, path=environments[needed.name], given=True)
    return Kit(plan, server, image, needed)


class Missing(Conflict):
    """A runtime whose document is right and which cannot be run here yet."""


def wanted(
    in_force: Mapping[str, AnyRuntime],
    applied: Mapping[str, AnyRuntime],
    shares: Mapping[str, Share | None],
    otherwise: Share,
    found: Images,
    environments: Mapping[str, Path],
) -> dict[str, Wanted]:
    """The runtimes that are to have pods, by name.

    Args:
        in_force: all runtimes that serve.
        applied: those of them that are documents of the user's: each of them has pods.
        shares: the runtimes that `mesh up --runtime` names, with numbers of their own where it has them.
        otherwise: the number for those that it names without one.
    """
    answer = {}
    for name in sorted({*shares, *applied} & in_force.keys()):
        share = _share(in_force[name], name in shares, shares.get(name), otherwise)
        try:
            made = kit(in_force[name], found, environments)
            warning = made.server.note({**os.environ, **made.plan.server_env}) if isinstance(made.server, Telling) else ""
        except MeshError as error:
            answer[name] = Wanted(share, None, error.message)
        else:
            answer[name] = Wanted(share, made, notes=tuple(notes(made)), warning=warning)
    return answer


def _share(document: AnyRuntime, named: bool, own: Share | None, otherwise: Share) -> Share:
    """The document's replicas, else what the command line says, else one."""
    if document.spec.replicas is not None:
        return Share(document.spec.replicas, document.spec.replicas)
    return (own or otherwise) if named else Share(1, 1)


def notes(kit: Kit) -> list[str]:
    """What of a document is not taken over here, one sentence each."""
    plan, found = kit.plan, list(kit.plan.notes)
    overridden: dict[str, list[str]] = {}
    for name in plan.server_env:
        if name in kit.server.fixed:
            overridden.setdefault(kit.server.fixed[name], []).append(name)
    found += [f"env {', '.join(names)} is not taken over: {why}" for why, names in overridden.items()]
    if isinstance(kit.server, Custom):
        found += [f"env {name}={value} becomes what the mesh chooses for each pod" for name, value in kit.server.changed(plan).items()]
    elif plan.command or plan.args:
        found.append(f"command and args of the container {plan.container} are not taken over: the mesh starts the server itself")
    clash = [name for name in plan.adapter_env if name in ADAPTER_FIXED]
    if clash:
        found.append(f"builtInAdapter.env {', '.join(clash)} is not taken over: the mesh chooses ports, folders and capacity")
    return found


def resolve(word: str, known: Mapping[str, AnyRuntime]) -> str:
    """The name of a runtime: itself, or the built-in one of a server type (`ovms`, which is `openvino` too).

    Malformed if there is none; says which there are.
    """
    if word in known:
        return word
    server_type = next((one for one, module in servers.MODULES.items() if word in (one, module)), "")
    if server_type:
        return servers.find(server_type).runtime
    raise Malformed(
        f"--runtime {word}: there is no such runtime; there are {', '.join(sorted(known))}, "
        f"and the server types {', '.join(servers.MODULES)}"
    )


def parse_runtimes(text: str) -> dict[str, Share | None]:
    """`mlserver,triton=2,mine=1..3` → numbers by word, None where there is none. Malformed with what it has to look like."""
    found: dict[str, Share | None] = {}
    for part in text.split(","):
        word, equals, number = part.strip().partition("=")
        if not word or (equals and not number):
            raise Malformed(f"--runtime {text}: it reads --runtime NAME[=N|=MIN..MAX],…, e.g. --runtime mlserver=2,triton")
        if word in found:
            raise Malformed(f"--runtime {text}: {word} stands there twice")
        found[word] = share(number, f"--runtime {text}") if equals else None
    return found


def completed(incomplete: str) -> list[str]:
    """What `--runtime` may go on with, for the shell: the server types, after what stands there already."""
    there, comma, last = incomplete.rpartition(",")
    named = [part.partition("=")[0] for part in there.split(",")]
    return [f"{there}{comma}{word}" for word in sorted(servers.MODULES) if word.startswith(last) and word not in named]


MOST_PODS = 100
"""A pod is three processes and a dozen ports; a number beyond this is a slip of the finger."""


def share(text: str, option: str) -> Share:
    """`3` or `1..4`. Malformed if it is neither; `option` is what the message begins with."""
    least, dots, most = text.partition("..")
    if not all(part.isascii() and part.isdecimal() and len(part) < 7 for part in (least, most if dots else least)):
        reads = "--pods N or --pods MIN..MAX, e.g. --pods 3 or --pods 1..4" if option.startswith("--pods") else "NAME=N or NAME=MIN..MAX"
        raise Malformed(f"{option}: it reads {reads}")
    lowest, highest = int(least), int(most if dots else least)
    if lowest < 1:
        raise Malformed(f"{option}: a mesh has at least one pod")
    if lowest > highest:
        raise Malformed(f"{option}: the first number is the smaller one; did you mean {highest}..{lowest}?")
    if highest > MOST_PODS:
        raise Malformed(f"{option}: {MOST_PODS} pods at most; each is three processes and a dozen ports of this machine")
    return Share(lowest, highest)
