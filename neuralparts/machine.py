"""What this machine has for the program: processors, memory, GPUs, and how waiting threads behave.

Imports neither torch nor anything else that starts threads, so that `settle_threads` can run before them.
"""

import contextlib
import ctypes
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from neuralparts.errors import UserError
from neuralparts.wording import counted

# Where Linux describes control groups, and which of them this process belongs to.
GROUPS, OWN_GROUPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")
# The files of a memory group, by cgroup version: its limit, its use, and the line of memory.stat that counts the pages
# of the page cache that the kernel can drop.
MEMORY_FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}

# Address space that the libraries need, bytes: for a command on one thread; for one that neither fits nor marches; for
# each further thread, its stacks and heaps. Measured were up to 1.04, 0.58 and 0.45 GiB (docs/log.md).
ADDRESS_SPACE, LIGHT_ADDRESS_SPACE, ADDRESS_SPACE_PER_THREAD = 5 * 2**28, 3 * 2**28, 2**29

# Arrays from so many bytes on have memory of their own in `map_large_arrays`; so many free bytes may stay at the end of
# the heap. Then the numbers of glibc's malloc.h for the two.
LARGE_ARRAY, _KEPT_AT_THE_END = 2**22, 2**26
_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD = -3, -1

# When this module was loaded, by time.perf_counter().
_LOADED = time.perf_counter()


def process_seconds() -> float:
    """Seconds since this process was started, the start of Python and of the shell script that became it included.

    Outside Linux, where the system does not say it, the seconds since Python could measure them.
    """
    try:
        ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])  # since the machine started
        return time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.perf_counter() - _LOADED


def settle_threads() -> None:
    """Make waiting threads yield soon to other programs. Settings in the environment win. Call it before torch loads.

    Spinning without end, OpenMP's default, costs up to 30 times on a busy machine; not spinning at all costs a fifth on
    a quiet one (docs/log.md). GNU's OpenMP counts the spins; other libraries yield at once.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")


def check_address_space(least: int = ADDRESS_SPACE) -> None:
    """Raise UserError if `ulimit -v` allows less than the libraries need. least: bytes on one thread.

    They crash or hang where they run out of it while they start, or in a small allocation; no exception is raised then.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    threads = thread_count()
    needed = least + (threads - 1) * ADDRESS_SPACE_PER_THREAD
    if limit != resource.RLIM_INFINITY and limit < needed:
        fewer = ", or set OMP_NUM_THREADS=1" if threads > 1 else ""
        raise UserError(
            f"not enough memory: ulimit -v allows {limit // 1024} KiB, and {counted(threads, 'thread')} of the "
            f"libraries need {needed // 1024}; raise it{fewer}"
        )


def usable_processors() -> list[int]:
    """Numbers of the processors that this process may use: its affinity, cut to the quota of its control groups."""
    if hasattr(os, "sched_getaffinity"):
        processors = sorted(os.sched_getaffinity(0))
    else:
        processors = list(range(os.cpu_count() or 1))
    quotas = [quota for folder, version in control_groups("cpu") if (quota := processor_quota(folder, version))]
    return processors[: max(1, int(min(quotas)))] if quotas else processors


def thread_count() -> int:
    """Threads to start: one a usable processor, or fewer where OMP_NUM_THREADS says so."""
    processors = len(usable_processors())
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(processors, int(asked)) if asked.isdigit() and int(asked) > 0 else processors


def control_groups(controller: str) -> list[tuple[Path, int]]:
    """(folder, cgroup version) of this process's control group and of those around it; [] outside Linux."""
    try:
        lines = OWN_GROUPS.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        number, controllers, path = line.split(":", 2)
        if number == "0":
            base, version = GROUPS, 2
        elif controller in controllers.split(","):
            base, version = GROUPS / (controllers if (GROUPS / controllers).is_dir() else controller), 1
        else:
            continue
        inner = base / path.lstrip("/")
        found += [(folder, version) for folder in (inner, *inner.parents) if folder.is_relative_to(base)]
    return found


def processor_quota(folder: Path, version: int) -> float:
    """Processors that a control group may keep busy at a time; 0 for no limit."""
    try:
        if version == 2:
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return 0.0 if quota == "max" or int(quota) < 0 else int(quota) / int(period)
    except (OSError, ValueError):
        return 0.0


def memory_left(folder: Path, version: int) -> int | None:
    """Free bytes under a control group's memory limit, page cache not counted; None if unlimited."""
    limit, used, cache = MEMORY_FILES[version]
    try:
        most = int((folder / limit).read_text())
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
        return max(0, most - int((folder / used).read_text()) + int(rows.get(cache, 0)))
    except (OSError, ValueError):
        return None


def usable_memory() -> int:
    """Free bytes: the machine's, cut to the limits of this process's control groups; 0 if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return 0
    limits = [
        left for folder, version in control_groups("memory") if (left := memory_left(folder, version)) is not None
    ]
    return max(1, min([free, *limits]))


def resident_memory(process: int | None = None) -> int:
    """Resident memory in bytes of a process, by default this one; 0 if the process is gone or nothing reports it."""
    process = os.getpid() if process is None else process
    if not Path("/proc/self/statm").exists():  # not Linux
        return _resident_memory_by_ps(process)
    try:
        return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def give_memory_back() -> None:
    """Return what GNU's allocator keeps of freed arrays to the system: 50 to 165 MiB after a fit."""
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another allocator; Windows
        ctypes.CDLL(None).malloc_trim(0)


def map_large_arrays() -> None:
    """Have GNU's allocator take memory of its own for each large array, and return it when the array is freed.

    Otherwise it learns to keep arrays of up to 32 MiB in one heap, which small objects between them hold in place.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another allocator; Windows
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, LARGE_ARRAY)
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, _KEPT_AT_THE_END)


def _resident_memory_by_ps(process: int) -> int:
    """As `resident_memory`, asked of the program ps, as on macOS; 0 where there is none."""
    if shutil.which("ps") is None:
        return 0
    words = ["ps", "-o", "rss=", "-p", str(process)]
    kibibytes = subprocess.run(words, capture_output=True, text=True).stdout.strip()
    return int(kibibytes) * 1024 if kibibytes.isdigit() else 0


def may_have_gpus() -> bool:
    """False if the environment hides all GPUs, or there is no driver of one."""
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    devices = ("nvidiactl", "dxg", "kfd")
    return bool(shutil.which("nvidia-smi")) or any(Path(f"/dev/{name}").exists() for name in devices)


def gpu_number(device: str) -> int:
    """The number of a GPU, as --gpu has it, by its torch device, such as "cuda:1"; -1 for any other device."""
    kind, _, number = device.partition(":")
    return int(number or 0) if kind == "cuda" else -1


def gpu_memory() -> int:
    """Bytes of the smallest NVIDIA GPU's memory; 0 if unknown."""
    words = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        mebibytes = subprocess.run(words, capture_output=True, text=True).stdout.split()
    except OSError:
        return 0
    return min((int(number) * 2**20 for number in mebibytes if number.isdigit()), default=0)


def allow_open_files(count: int = 4096) -> None:
    """Let this process open so many files at a time, as far as the system allows it; many begin with 256 or 1,024."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if most == resource.RLIM_INFINITY else min(count, most)
    if now != resource.RLIM_INFINITY and now < wanted:
        with contextlib.suppress(OSError, ValueError):  # macOS has a lower limit than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))


def usable_gpus() -> list[str]:
    """Names of this machine's GPUs for CUDA_VISIBLE_DEVICES. Nothing is imported here that occupies a GPU."""
    if (visible := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() not in ("", "-1")]
    if not may_have_gpus():
        return []
    # Another process asks torch, as a worker will: a driver may list a GPU that torch cannot use.
    program = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"
    count = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
    return [str(k) for k in range(int(count))] if count.isdigit() else []
