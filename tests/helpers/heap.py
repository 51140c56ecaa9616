"""How does the C library keep less of the memory that a process has freed?"""

import ctypes

_SETTINGS = {-8: 2, -3: 1 << 20, -1: 1 << 20}  # malloc.h: arenas, mmap threshold, trim threshold


def keep_little() -> None:
    """Tells glibc's heap so; to be called before TensorFlow, which starts threads."""
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        for parameter, value in _SETTINGS.items():
            library.mallopt(parameter, value)
