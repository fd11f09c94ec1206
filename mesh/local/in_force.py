"""Which runtimes there are and which of them are to have pods, from documents, options and images."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mesh.core.errors import Conflict, Malformed
from mesh.local import environments, images, kits
from mesh.local.documents import Documents
from mesh.local.environments import Environment
from mesh.local.images import Images
from mesh.local.kits import Kit, Missing, Share, Wanted
from mesh.local.options import UpOptions
from mesh.local.state import DataFolder
from mesh.manifests import runtimes
from mesh.manifests.documents import AnyRuntime, ClusterServingRuntime, ServingRuntime
from mesh.manifests.parsing import Applied

KINDS = (ServingRuntime, ClusterServingRuntime)


class InForce:
    """The runtimes of one mesh.

    Args:
        documents: those of the user's.
        found: folders that stand for images.
    """

    def __init__(self, options: UpOptions, documents: Documents, found: Images) -> None:
        self._options, self._documents, self.images = options, documents, found
        # Read once: every view of a service that waits asks for all runtimes.
        self._built_in = [one.document for one in runtimes.built_in()]

    def all(self, batch: Iterable[Applied] = (), without: tuple[str, str] | None = None) -> dict[str, AnyRuntime]:
        """Every runtime that serves, by name.

        Args:
            batch: documents that are to be applied.
            without: kind and name of one that is to be deleted.
        """
        every = [*self._built_in, *self._own(batch, without)]
        return runtimes.in_force([one for one in every if isinstance(one, KINDS)])

    def wanted(self, batch: Iterable[Applied] = (), without: tuple[str, str] | None = None) -> dict[str, Wanted]:
        """Those that are to have pods; arguments as of `all`.

        Raises:
            Malformed: `--runtime` names one that does not exist.
        """
        batch = list(batch)
        every = self.all(batch, without)
        applied = {one.name: one for one in self._own(batch, without) if every.get(one.name) is one}
        return kits.wanted(every, applied, self.named(batch), self._options.share, self.images, self._options.environments)

    def named(self, batch: Iterable[Applied] = ()) -> dict[str, Share | None]:
        """The runtimes that `--runtime` names, with numbers of their own where it has them; also those that serve nothing at the moment.

        Raises:
            Malformed: there is none of such a name.
        """
        every = [*self._built_in, *self._own(batch)]
        known = {one.name: one for one in every if isinstance(one, KINDS)}
        return {kits.resolve(word, known): share for word, share in self._options.runtimes.items()}

    def users(self, reference: str) -> list[str]:
        """Names of the runtimes whose image is that one, with any tag if the reference has none."""
        of = {name: one.spec.containers for name, one in self.all().items()}
        return sorted(name for name, every in of.items() if any(reference in (one.image, images.repository(one.image)) for one in every))

    def check(self, batch: Iterable[Applied], without: tuple[str, str] | None = None) -> None:
        """Whether runtimes' documents can be applied, or one can be deleted.

        Raises:
            Malformed: one makes no pod anywhere.
            Conflict: no runtime would be left that has pods here.
        """
        batch = list(batch)
        for applied in batch:
            document = applied.document
            if isinstance(document, KINDS) and document.spec.multi_model:
                try:
                    kits.kit(document, self.images, self._options.environments)
                except Missing:
                    continue
        left = self.wanted(batch, without)
        if not any(one.kit and one.share.least for one in left.values()):
            why = "; ".join(f"{name}: {one.missing}" for name, one in left.items() if one.missing)
            raise Conflict(
                f"no runtime would be left that has pods here{f' ({why})' if why else ''}: a mesh has at least one; apply another runtime "
                "first, or end the mesh with `mesh down`"
            )

    def _own(self, batch: Iterable[Applied], without: tuple[str, str] | None = None) -> list[AnyRuntime]:
        held = {key: applied for key, applied in self._documents.held.items() if key != without}
        held |= {(applied.document.kind, applied.document.name): applied for applied in batch}
        return [one.document for one in held.values() if isinstance(one.document, KINDS)]


def ahead(options: UpOptions) -> list[Environment]:
    """Environments that a mesh with these options begins with and that are not made; what documents need beside that is made later.

    Raises:
        Malformed: the options name a runtime, or an image a folder, that does not exist; or no pod can be started.
    """
    folder = DataFolder.at(options.data)
    documents = Documents(folder.documents, options.namespace)
    documents.read(lambda _who, _what: None)
    for reference, path in options.images.items():
        images.read(reference, path)
    there = InForce(options, documents, Images(folder.images, options.images))
    wanted, named = there.wanted(), there.named()
    missing = [f"{name}: {wanted[name].missing}" for name in named if name in wanted and wanted[name].missing]
    if missing:
        raise Malformed("\n".join(missing))
    there.check(())
    needed: dict[Path, Environment] = {
        one.kit.environment.path: one.kit.environment for name, one in wanted.items() if one.kit and name in named
    }
    if several(wanted) and not options.store:
        etcd = environments.find("etcd")
        # The small one first: what keeps one from being made keeps the other.
        needed = {etcd.path: etcd, **needed}
    return [one for one in needed.values() if not one.made]


def several(wanted: Mapping[str, Wanted]) -> bool:
    """Whether there are several pods, or may be."""
    shares = [one.share for one in wanted.values() if one.kit]
    return sum(one.most for one in shares) > 1


def kits_at_start(wanted: Mapping[str, Wanted]) -> list[Kit]:
    """One a pod that can be started at once."""
    return [one.kit for one in wanted.values() if one.kit and one.kit.environment.made for _ in range(one.share.least)]
