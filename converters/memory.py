"""The memory of this machine."""

import os


def physical_memory() -> int:
    """Bytes of this machine's memory; 64 GiB where the system does not tell."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 1 << 36
