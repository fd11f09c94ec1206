"""For all tests: stubs of the test services exist before anything that imports them is collected; no example is late on a slow machine."""

from hypothesis import HealthCheck, settings

from tests.support import stubs

stubs.ensure()
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
settings.load_profile("any machine")
