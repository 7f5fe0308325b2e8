"""How threads wait. Imported before torch, which reads these settings once; nothing else belongs here."""

import os


def settle_threads() -> None:
    """Let threads that wait give way soon to other programs; what the environment says already stands.

    Spinning on, the default, costs up to 30 times on a busy machine; not spinning at all, a fifth on a quiet one
    (docs/log.md). GNU's OpenMP counts the turns; others give way at once.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
