"""A QMP server that behaves as QEMU does, with faults on demand.

In a test: ``async with FakeQmp(qemu="10.0", log=path) as fake: ... fake.address``. As a process:
``python -m tests.fake_qmp --socket PATH --qemu 7.2``, or :class:`FakeProcess` around that.
It shares no code with qtctl or its QMP library, so that neither can hide the other's mistakes.
"""

from .faults import FAULTS
from .process import FakeProcess
from .server import CONTROLS, FakeQmp
from .trace import QmpError
from .versions import SERIES

__all__ = ["CONTROLS", "FAULTS", "SERIES", "FakeProcess", "FakeQmp", "QmpError"]
