"""Which device a fit computes on."""

import torch

from neuralparts.errors import UserError
from neuralparts.watch import Watch
from neuralparts.wording import say


def choose_device(gpu: int | None, watch: Watch) -> str:
    """The torch device of --gpu: a number, -1 for the CPU, None for GPU 0 if there is one.

    The GPU is tried first: one that this torch has no code for, or that another program occupies, fails only then. If
    the user named no GPU, the CPU takes over and a note says so; otherwise UserError is raised.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if gpu == -1 or (gpu is None and count == 0):
        return "cpu"
    if (gpu or 0) >= count:
        raise UserError(f"--gpu {gpu}: this machine has {count} GPUs; -1 is the CPU")
    device = f"cuda:{gpu or 0}"
    try:
        torch.zeros(1, device=device).add_(1).item()
        say(f"fitting on {torch.cuda.get_device_name(device)}")
    except (RuntimeError, AssertionError) as error:
        reason = str(error).strip().partition("\n")[0]
        if gpu is not None:
            raise UserError(f"--gpu {gpu}: cannot be used ({reason}); -1 is the CPU") from error
        watch.note(f"GPU 0 cannot be used ({reason}): fitted on the CPU; --gpu -1 skips the GPU")
        return "cpu"
    return device
