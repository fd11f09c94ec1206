"""For all tests: stubs of the test services exist before anything that imports them is collected."""

from tests.support import stubs

stubs.ensure()
