"""A fuzzer of every file that somebody else may have written: meshes, samples, models and checkpoints.

    make fuzz ARGS="--count 10000 --seed 0 --kinds stl obj"

A mutant is a healthy file with some changes; inside an archive or a header as well as outside. It must be read, or
refused in one printable line that names the file, within 10 s and 500 MiB + 50 x its size. Mutants run in children. A
fault is printed with the flags that run the same mutant again; with --save its bytes are kept as well.
"""

import argparse
import sys
import time
from pathlib import Path

from tests.fuzz.campaign import KINDS, fuzz, run_here


def main() -> int:
    """The command line; returns the exit code, 1 if there were faults."""
    parser = argparse.ArgumentParser("fuzz", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="mutants of each kind (default 1000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS, metavar="KIND", help=" ".join(KINDS))
    parser.add_argument("--here", nargs=4, metavar=("KIND", "SEED", "FIRST", "COUNT"), help="run these in this process")
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="with --here: keep each mutant there")
    flags = parser.parse_args()
    if flags.here:
        if flags.save:
            flags.save.mkdir(parents=True, exist_ok=True)
        run_here(flags.here[0], *map(int, flags.here[1:]), flags.save)
        return 0
    exit_code = 0
    for kind in flags.kinds:
        start = time.perf_counter()
        counts, faults = fuzz((kind,), flags.count, flags.seed)
        said = ", ".join(f"{name} {number:,}" for (_, name), number in sorted(counts.items()))
        print("\n".join([*faults, f"{kind}: {said}; {time.perf_counter() - start:.0f} s"]), flush=True)
        exit_code |= bool(faults)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
