"""Which device a command computes on, and how exactly a GPU multiplies.

Every command multiplies float32 values in float32, and it is pinned here: TF32 would round each factor by up to 2^-11,
more than the error of a good fit. This overrules torch's flags and its variable TORCH_ALLOW_TF32_CUBLAS_OVERRIDE. The
variable NVIDIA_TF32_OVERRIDE overrules torch; if it is set, the user gets a line. A program that calls `NeuralSDF`
itself decides for itself.
"""

import os

import torch

from neuralparts.errors import UserError
from neuralparts.watch import Watch
from neuralparts.wording import counted, say


def choose_device(gpu: int | None, watch: Watch) -> str:
    """The torch device of --gpu: a number, -1 for the CPU, None for GPU 0 if there is one.

    The GPU is tried first: one that this torch has no code for, or that another program occupies, fails only then. If
    the user named no GPU, the CPU takes over and a note says so; otherwise UserError is raised. Pins the precision.
    """
    torch.set_float32_matmul_precision("highest")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu == -1 or (gpu is None and count == 0):
        return "cpu"
    if (gpu or 0) >= count:
        raise UserError(f"--gpu {gpu}: this machine has {counted(count, 'GPU')}; -1 is the CPU")
    device = f"cuda:{gpu or 0}"
    try:
        torch.zeros(1, device=device).add_(1).item()
        say(f"computing on {torch.cuda.get_device_name(device)}")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        if gpu is not None:
            raise UserError(f"--gpu {gpu}: cannot be used ({reason}); -1 is the CPU") from error
        watch.note(f"GPU 0 cannot be used ({reason}): computed on the CPU; --gpu -1 skips the GPU")
        return "cpu"
    if os.environ.get("NVIDIA_TF32_OVERRIDE", "") not in ("", "0"):
        watch.note("NVIDIA_TF32_OVERRIDE is set: the GPU may round values to TF32, and torch cannot undo it; unset it")
    return device
