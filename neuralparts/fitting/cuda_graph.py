"""Steps captured as CUDA graphs: the host starts the hundred launches of a step as one.

In: a step whose device part, `body`, reads and writes tensors that stay where they are. Out: a function with the same
effect, by replaying. Source: CUDA graphs as `torch.cuda.graph` offers them.
"""

from collections.abc import Callable

import torch

from neuralparts.fitting.step_frame import StepFrame
from neuralparts.wording import say

# Steps before a capture: they load kernels and reserve memory, which a capture cannot.
_WARM_UP_STEPS = 2


def capture(step: StepFrame, kinds: tuple[bool, ...]) -> None:
    """Let a step on a GPU run by graphs, one for each of `kinds`: the values of `with_statistics` that it meets.

    No tensor that a step changes is changed by this. If capturing fails, the step stays as it is, and a line says why.
    """
    before = [tensor.detach().clone() for tensor in step.changed]
    try:
        graphs = {kind: graph_of(step.body, kind, step.numbers.device) for kind in kinds}
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        say(f"steps are launched one by one, which takes longer: no CUDA graph of them ({reason})")
        graphs = None
    with torch.no_grad():
        for tensor, saved in zip(step.changed, before, strict=True):
            tensor.copy_(saved)
    if graphs is not None:
        step.run = lambda with_statistics: graphs[with_statistics].replay()


def graph_of(body: Callable[[bool], None], kind: bool, device: torch.device) -> torch.cuda.CUDAGraph:
    """The graph of `body(kind)`, after some steps on a stream of their own. Raises RuntimeError."""
    with torch.cuda.device(device):
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_STEPS):
                body(kind)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            body(kind)
    return graph
