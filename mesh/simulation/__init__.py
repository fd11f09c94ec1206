"""A mesh of simulated pods: `mesh.pod` and `mesh.core` unchanged, on an event loop whose time jumps to the next timer.

Simulated are the store (`store.py`, `registry.py`), the runtimes (`runtime.py`), the network (`network.py`), the clocks (`pod.py`) and
time itself (`loop.py`); `world.py` puts them together. What a pod stands in is handed to it by `mesh.pod.surroundings`; it cannot tell the
difference.

    from mesh.simulation import ModelTraits, RuntimeTraits, World

    async def story(world: World) -> None:
        pods = [await world.add_pod(runtime=RuntimeTraits(capacity=4 << 30, slots=2), labels=("gpu",)) for _ in range(3)]
        await world.register("digits", ModelTraits(size=200 << 20, load_time=2.0, latency=0.01), at=pods[0])
        called = await world.call("digits", at=pods[1], deadline=30.0)   # Called: begun, ended, cold, server, executed, error
        await asyncio.sleep(60)                                           # a minute of simulated time, at no cost
        world.kill(pods[0])                                               # or: await world.end_pod(pods[0])

    world = World(seed=7, settings={"load_failure_expiry": 60_000})
    world.run(story)
    world.calls, world.counts["loads"], world.counts["evictions"], world.complaints

Many models are registered at once before the first pod with `world.seed_models({id: traits})`. `world.watchers` takes callables that are
told of each instruction a pod carries out (`LoadModel`, `NoteEviction`, ...); `world.holders(model)` are the pods that serve a model;
`pod.living` has all parts of a pod (`conductor.pod.cache`, `registry`, `management`, ...). With `world.forget_calls = True` ended calls are
not kept, for traces of millions. One world per process at a time: it seeds the module `random`, which pods draw from.
"""

from mesh.simulation.calls import Called
from mesh.simulation.pod import SimulatedPod
from mesh.simulation.runtime import ModelTraits, RuntimeTraits
from mesh.simulation.world import World

__all__ = ["Called", "ModelTraits", "RuntimeTraits", "SimulatedPod", "World"]
