"""A second device without a GPU: torch takes it for another device than the CPU, and the CPU computes for it.

Inside `with FakeDevice() as device:` torch knows a device of the name FAKE. As with a GPU, an operation that mixes its
tensors with the CPU's raises MixedDevicesError, every operation is a launch, and whoever reads its values waits.
`device.take_counts()` says how many of each there were. Values have the CPU's bits. It imitates no memory, precision,
streams or time, and what code does for the type "cuda" alone, such as to capture graphs, it does not see.
"""

from collections import Counter
from dataclasses import dataclass, field

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

FAKE = "fake:0"
# Operations whose results have a shape or a value that the host must know: it waits for the device.
_READING = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
# One that reads an error code from the device, and a view, neither of which torch marks as such.
_READS_ERRORS, _UNMARKED_VIEW = "_linalg_check_errors", "_unsafe_view"
# Operations with this key are made of others.
_COMPOSITE = torch._C.DispatchKey.CompositeImplicitAutograd

# For the whole process, and only once.
_setup_privateuseone_for_python_backend("fake")


class MixedDevicesError(RuntimeError):
    """An operation got tensors of the fake device and of the CPU."""


@dataclass
class Counts:
    """Operations by name. launches: on the device. copies: from the CPU to it. waits: of the host for it."""

    launches: Counter = field(default_factory=Counter)
    copies: Counter = field(default_factory=Counter)
    waits: Counter = field(default_factory=Counter)

    def totals(self) -> tuple[int, int, int]:
        """(launches, copies, waits)."""
        return self.launches.total(), self.copies.total(), self.waits.total()


class DeviceTensor(torch.Tensor):
    """A tensor of the fake device. content: the same tensor on the CPU, which nobody else sees."""

    @staticmethod
    def __new__(cls, content):
        layout = {"strides": content.stride(), "storage_offset": content.storage_offset(), "dtype": content.dtype}
        tensor = torch.Tensor._make_wrapper_subclass(cls, content.shape, device=torch.device(FAKE), **layout)
        tensor.content = content
        return tensor

    def __init__(self, content):
        pass

    def __repr__(self, *, tensor_contents=None):
        return f"DeviceTensor({self.content!r})"

    def tolist(self):
        return self.cpu().tolist()  # torch's own refuses every other class

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})


class FakeDevice(TorchDispatchMode):
    """The device, as long as the block lasts. Counts are those of all threads, as autograd has threads of its own."""

    counts = Counts()

    def __enter__(self):
        # Else `torch.tensor(1.0, device=FAKE)` stays on the CPU.
        self._lifted_before = torch._C._only_lift_cpu_tensors()
        torch._C._set_only_lift_cpu_tensors(True)
        return super().__enter__()

    def __exit__(self, *reason):
        torch._C._set_only_lift_cpu_tensors(self._lifted_before)
        return super().__exit__(*reason)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _compute(function, args, kwargs or {})

    @staticmethod
    def take_counts() -> Counts:
        """What was counted since the last call, or since the block began."""
        counts, FakeDevice.counts = FakeDevice.counts, Counts()
        return counts


def _compute(function, args, kwargs):
    """Let the CPU do one operation of torch; count it if it is one of the device."""
    if torch.is_inference_mode_enabled() and function.has_kernel_for_dispatch_key(_COMPOSITE):
        with FakeDevice():  # outside of inference mode, autograd takes these operations apart
            return function.decompose(*args, **kwargs)
    name = function._schema.name.removeprefix("aten::")
    if name in ("_to_copy", "copy_"):
        return _copy(name, function, args, kwargs)
    leaves = tree_leaves((args, kwargs))
    is_ours = any(isinstance(leaf, DeviceTensor) for leaf in leaves)
    if not is_ours and not _is_fake(kwargs.get("device")):
        return function(*args, **kwargs)
    _refuse_mixed(function, leaves)
    if "device" in kwargs:
        kwargs = kwargs | {"device": torch.device("cpu")}
    result = tree_map(_on_device, function(*_contents(args), **_contents(kwargs)))
    _count(name, function, leaves)
    return return_and_correct_aliasing(function, args, kwargs, result) if is_ours else result


def _copy(name, function, args, kwargs):
    """A copy, perhaps from one device to the other: `tensor.to(...)` or `target.copy_(source)`."""
    counts = FakeDevice.counts
    source = args[0] if name == "_to_copy" else args[1]
    if name == "_to_copy":
        to_device = _is_fake(kwargs["device"]) if kwargs.get("device") is not None else _is_ours(source)
        # Autograd gives a device even where the copy only has another dtype.
        kwargs = kwargs | {"device": torch.device("cpu")}
    else:
        to_device = _is_ours(args[0])
    result = function(*_contents(args), **kwargs)
    if to_device or _is_ours(source):
        kind = counts.launches if to_device and _is_ours(source) else counts.copies if to_device else counts.waits
        kind[name] += 1
    if name == "copy_":
        return args[0]
    return DeviceTensor(result) if to_device else result


def _refuse_mixed(function, leaves):
    """Raise MixedDevicesError where a GPU's operation would raise an error for a tensor or generator of the CPU."""
    # As numbers, tensors () of the CPU may meet those of a GPU in what is done value by value.
    least = 1 if torch.Tag.pointwise in function.tags else 0
    strangers = [
        leaf for leaf in leaves if isinstance(leaf, torch.Tensor) and not _is_ours(leaf) and leaf.ndim >= least
    ]
    if strangers:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in strangers)
        raise MixedDevicesError(f"{function}: tensors of the CPU, {shapes}, meet those of the device")
    if any(isinstance(leaf, torch.Generator) for leaf in leaves):
        raise MixedDevicesError(f"{function}: a generator of the CPU draws for the device")
    if "mkldnn" in function._schema.name:
        raise MixedDevicesError(f"{function}: only the CPU has this operation")


def _count(name, function, leaves):
    """Count an operation of the device, unless it only allocates memory or makes a view."""
    is_masked = name in ("index", "index_put_") and any(_is_mask(leaf) for leaf in leaves)
    if name == _READS_ERRORS or is_masked or (name != "index" and _READING.intersection(function.tags)):
        FakeDevice.counts.waits[name] += 1
    elif not (function.is_view or name == _UNMARKED_VIEW or name.startswith(("empty", "new_empty"))):
        FakeDevice.counts.launches[name] += 1


def _is_mask(value):
    """True for a tensor of bools: as an index, its number of True must be known."""
    return isinstance(value, torch.Tensor) and value.dtype == torch.bool


def _is_ours(value):
    return isinstance(value, DeviceTensor)


def _is_fake(device):
    return device is not None and torch.device(device).type == "fake"


def _on_device(value):
    return DeviceTensor(value) if isinstance(value, torch.Tensor) else value


def _contents(values):
    """Arguments of an operation, for the CPU."""
    return tree_map(lambda value: value.content if _is_ours(value) else value, values)
