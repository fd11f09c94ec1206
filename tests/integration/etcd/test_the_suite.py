"""The registry in etcd passes the suite that every store passes."""

from tests.unit.store.test_changing import *  # noqa: F403 # its tests run here with this folder's registry
from tests.unit.store.test_listening import *  # noqa: F403
