"""That memory is kept: a process that asks again for what it has freed faults no pages."""

import platform
import subprocess
import sys

import pytest

CODE = """
import resource, sys
import numpy as np
from filterscope.analyzer.compute.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(1 << 23)
before = faults()
for _ in range(4):
    np.ones(1 << 23)  # 64 MiB, which is 16,384 pages
print(faults() - before)
"""


def faulted(how):
    return int(subprocess.run([sys.executable, "-c", CODE, how], capture_output=True, check=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_used_again():
    assert faulted("kept") < 100 < faulted("as it is")
