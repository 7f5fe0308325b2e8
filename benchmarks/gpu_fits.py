"""Parts of `benchmarks/gpu.py` that fit in its own process: the machine, correctness, seconds of a step.

Each takes the findings and the flags of the check. Single steps are seen through `should_stop`, which a fit calls after
every step.
"""

import argparse
import contextlib
import itertools
import os
import platform
import time
from dataclasses import replace

from neuralparts.machine import settle_threads, thread_count

settle_threads()

import numpy as np
import torch

from benchmarks.gpu_findings import Findings, judged, seconds_of, wait_for
from benchmarks.gpu_steps import LARGEST_DIFFERENCE, box_samples, step_differences
from neuralparts.choices import ACTIVATIONS, LOSSES, OPTIMIZERS, SCALERS
from neuralparts.errors import Interrupted
from neuralparts.fitting import FitHooks, FitSettings, Member, fit, fit_batch
from neuralparts.network import DAM_WIDTHS, HashGrid, NeuralSDF, fit_scaler

# Samples a second asked of 32 networks at once.
ASKED_RATE = 8e6
# With a budget of time that never passes, a fit is checked after every 50 steps and at no other time.
STEADY = FitSettings(batch_size=500, learning_rate=1e-3, time_budget=1.0)
# Steps between which a step is timed: a refresh of SOAP's bases is among them, as in every hundred, but no check.
TIMED = (205, 305)
# Networks fitted in a batch and alone.
FITS = 8


def is_usable(device: str) -> bool:
    """False, and a line about it, if this process cannot compute on the device, perhaps because of an earlier error."""
    try:
        torch.zeros(1, device=device).add_(1).item()
        return True
    except (RuntimeError, AssertionError) as error:  # the latter of a torch without CUDA
        print(f"{device} cannot be used: {str(error).strip().partition(chr(10))[0]}", flush=True)
        return False


def machine(findings: Findings, flags: argparse.Namespace) -> None:
    """What is there, and what it can do at most."""
    device, size = flags.device, 256 if flags.small else 8192
    findings.tell("versions", f"torch {torch.__version__}, numpy {np.__version__}, Python {platform.python_version()}")
    findings.tell("processors", f"{os.cpu_count()}, {thread_count()} threads")
    variables = ("NVIDIA_TF32_OVERRIDE", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE")
    findings.tell("variables", ", ".join(f"{name} {os.environ.get(name, 'unset')}" for name in variables))
    if device.startswith("cuda"):
        card = torch.cuda.get_device_properties(device)
        findings.tell("card", f"{card.name}, {card.total_memory / 2**30:.0f} GiB, {card.multi_processor_count} SMs")
    matrix = torch.randn(size, size, device=device)
    before = torch.get_float32_matmul_precision()
    for name, precision, dtype in (
        ("float32", "highest", torch.float32),
        ("TF32", "high", torch.float32),
        ("bfloat16", "highest", torch.bfloat16),
    ):
        torch.set_float32_matmul_precision(precision)
        one = matrix.to(dtype)
        seconds = seconds_of(lambda one=one: one @ one, device)
        findings.tell(f"products in {name}", f"{2 * size**3 / seconds / 1e12:.0f} TFLOP/s")
    torch.set_float32_matmul_precision(before)
    values = torch.empty(2**16 if flags.small else 2**28, device=device)
    findings.tell("copy", f"{8 * len(values) / seconds_of(values.clone, device) / 1e12:.2f} TB/s")
    few = torch.zeros(8, device=device)
    seconds = seconds_of(lambda: [few.add_(1) for _ in range(1000)], device) / 1000
    findings.tell("smallest launch", f"{seconds * 1e6:.1f} us")


# --- correctness


def combinations() -> list[tuple[str, str, str, str, bool]]:
    """Every activation with every loss; optimizers, scalers and the hash grid take turns."""
    pairs = itertools.product(ACTIVATIONS, LOSSES)
    return [
        (activation, loss, OPTIMIZERS[k % 2], SCALERS[(k + k // 4) % 4], k % 3 == 2)
        for k, (activation, loss) in enumerate(pairs)
    ]


def combined(combination: tuple, sdf: np.ndarray, settings: FitSettings) -> tuple[NeuralSDF, FitSettings]:
    """A small network on the CPU, and the settings, of one combination."""
    activation, loss, optimizer, scaler, has_encoding = combination
    grid = HashGrid(2, 2, 4, 8, 6) if has_encoding else None
    network = NeuralSDF((32, 24, 16), activation, grid, fit_scaler(scaler, sdf))
    init = "siren" if activation == "sine" else "he_uniform"
    return network, replace(settings, loss=loss, optimizer=optimizer, init=init)


def error_of(network: NeuralSDF, points: np.ndarray, sdf: np.ndarray) -> float:
    """Mean error at labelled points, domain units."""
    return float(np.abs(network.domain(points) - sdf).mean())


def correct(findings: Findings, flags: argparse.Namespace) -> None:
    """Fits on the device are those of the CPU, wait for nothing, and can be resumed."""
    findings.attempt("steps that wait", lambda: waiting_steps(flags.device), "none")
    for optimizer, count in itertools.product(OPTIMIZERS, (1, 4)):
        plan = flags.device, widths_of(flags), optimizer, count
        name, asked = f"steps of {count} by {optimizer} against float64", f"at most {LARGEST_DIFFERENCE}"
        findings.attempt(name, lambda plan=plan: exactness(step_differences(*plan)), asked)
    findings.attempt("error over the CPU's", lambda: error_ratios(flags.device, flags.small), "as of another order")
    for name, count, has_encoding, asked in (
        ("DAM", 1, False, "the same"),
        ("4 x DAM", 4, False, "the same"),
        ("hash grid", 1, True, "atomic sums: others"),
    ):
        findings.attempt(f"bits of {name}", lambda a=(count, has_encoding): repeated(*a, flags), asked)
    findings.attempt(f"{FITS} in a batch over alone", lambda: batch_over_alone(flags), "alike, both about 1")


def exactness(differences: str) -> str:
    """What `step_differences` found, judged."""
    return judged(not differences.startswith("FAULT"), differences)


def waiting_steps(device: str) -> str:
    """How many combinations wait for the device in one of the steps 2 to 30."""
    points, sdf = box_samples(20_000)
    found = []
    for combination in combinations():
        network, settings = combined(combination, sdf, STEADY)
        steps = itertools.count(1)

        def should_stop(steps=steps):
            step = next(steps)
            if device.startswith("cuda"):
                torch.cuda.set_sync_debug_mode("error" if step < 30 else "default")
            return step == 30

        hooks = FitHooks(should_stop=should_stop, clock=lambda: 0.0)
        try:
            fit(network.to(device), points, sdf, settings, hooks)
        except Interrupted:
            continue
        except Exception as error:
            found.append(f"{combination}: {type(error).__name__} {error}")
        finally:
            if device.startswith("cuda"):
                torch.cuda.set_sync_debug_mode("default")
    return judged(not found, f"{len(found)} of {len(combinations())} combinations {'; '.join(found)[:200]}")


def error_ratios(device: str, small: int) -> str:
    """Errors of fits on the device over those on the CPU, beside those of the CPU over its own with the samples in
    another order, as a GPU has it: least, median, largest of each optimizer; and how far values are apart."""
    points, sdf = box_samples(3000)
    other_order = np.random.default_rng(1).permutation(len(points))
    ratios, apart, failed = {name: [] for name in OPTIMIZERS}, 0.0, []
    for combination in combinations()[: 4 if small else None]:
        try:
            errors = []
            for place, order in (("cpu", slice(None)), (device, slice(None)), ("cpu", other_order)):
                network, settings = combined(combination, sdf, FitSettings(epochs=8, batch_size=500))
                fit(network.to(place), points[order], sdf[order], settings)
                errors.append(error_of(network, points, sdf))
                if order is not other_order:
                    apart = max(apart, differences_of_places(network, points, device))
            ratios[settings.optimizer].append((errors[1] / errors[0], errors[2] / errors[0]))
        except Exception as error:
            failed.append(f"{combination}: {type(error).__name__} {error}")
    if not any(ratios.values()):
        raise RuntimeError(failed[0])
    texts = []
    for optimizer, pairs in ratios.items():
        if pairs:
            one, other = map(spread, np.transpose(pairs))
            texts.append(f"{optimizer} {one} (another order {other})")
    text = f"{', '.join(texts)}; one network's values {apart:.1g} apart on both"
    return text + f"; {len(failed)} failed: {'; '.join(failed)[:200]}" * bool(failed)


def spread(ratios: np.ndarray) -> str:
    """Least, geometric mean and largest."""
    return f"{ratios.min():.3f} {np.exp(np.log(ratios).mean()):.3f} {ratios.max():.3f}"


def differences_of_places(network: NeuralSDF, points: np.ndarray, device: str) -> float:
    """Largest difference of a network's values on the device and on the CPU; AssertionError for its gradients."""
    network.to(device)
    values, slopes = network(points), network.gradient(points)
    there = torch.from_numpy(points).to(device)
    assert network(there).device == there.device == network.gradient(there).device
    network.cpu()
    slopes_apart = float(np.median(np.abs(slopes - network.gradient(points))))
    assert slopes_apart < 1e-4, f"gradients are {slopes_apart:.2g} apart"
    return float(np.abs(values - network(points)).max())


def widths_of(flags: argparse.Namespace) -> tuple[int, ...]:
    """The DAM network's, or smaller ones."""
    return (24, 16) if flags.small else DAM_WIDTHS


def some_members(count: int, has_encoding: bool, flags: argparse.Namespace, device: str, hooks=None) -> list[Member]:
    """Members with samples of their own. hooks: those of each by its number."""
    members = []
    for number in range(count):
        points, sdf = box_samples(2_000 if flags.small else 20_000, seed=number)
        widths = (64,) if has_encoding else widths_of(flags)
        grid = HashGrid(base_resolution=8) if has_encoding else None
        network = NeuralSDF(widths, encoding=grid, scaler=fit_scaler("StandardScaler", sdf)).to(device)
        own = hooks(number) if hooks else FitHooks()
        members.append(Member(network, points, sdf, hooks=own, resume=hooks is not None))
    return members


def repeated(count: int, has_encoding: bool, flags: argparse.Namespace) -> str:
    """Whether a second fit, and one that was interrupted, have the same bits; the error if the CPU goes on."""
    optimizer = "adam" if has_encoding else "soap"
    settings = FitSettings(epochs=2, batch_size=500, optimizer=optimizer, learning_rate=1e-3)
    folder = flags.out / "gpu"
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"checkpoint_{number}" for number in range(count)]
    interrupted_after = 6 if flags.small else 60

    def fitted(device=flags.device, hooks=None):
        members = some_members(count, has_encoding, flags, device, hooks)
        for outcome in fit_batch(members, settings):
            if isinstance(outcome, Exception):
                raise outcome
        return members

    def resuming(number, steps=None):
        done = itertools.count(1)
        return FitHooks(checkpoint=paths[number], should_stop=lambda: next(done) == steps)

    whole, again = fitted(), fitted()
    for path in paths:
        path.unlink(missing_ok=True)
    with contextlib.suppress(Interrupted):
        fitted(hooks=lambda number: resuming(number, interrupted_after))
    contents = [path.read_bytes() for path in paths]
    resumed = fitted(hooks=resuming)
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    crossed = fitted("cpu", resuming)
    errors = [np.mean([error_of(m.network, m.points, m.sdf) for m in members]) for members in (whole, crossed)]
    bits = same_bits(whole, again), same_bits(whole, resumed)
    text = (
        f"a second time {bits[0]}, after an interruption {bits[1]}; error {errors[0]:.5f}, with the CPU from the "
        f"checkpoint on {errors[1]:.5f}"
    )
    return text if has_encoding else judged(set(bits) == {"the same"}, text)


def same_bits(ones: list[Member], others: list[Member]) -> str:
    """'the same' if all weights are."""
    pairs = zip(ones, others, strict=True)
    equal = all(
        torch.equal(one, other)
        for a, b in pairs
        for one, other in zip(a.network.state_dict().values(), b.network.state_dict().values(), strict=True)
    )
    return "the same" if equal else "others"


def batch_over_alone(flags: argparse.Namespace) -> str:
    """Errors of networks fitted at once over those of the same, each fitted alone, on the device; and of these alone
    with samples moved in the seventh digit over the same: the `spread` of both.

    A fault makes the former worse than the latter. That the ratios differ from 1 is what a short fit's rounding does.
    """
    settings = FitSettings(epochs=4, batch_size=500)
    together, alone, moved = (some_members(FITS, False, flags, flags.device) for _ in range(3))
    fit_batch(together, settings)
    for member, other in zip(alone, moved, strict=True):
        fit(member.network, member.points, member.sdf, settings)
        fit(other.network, other.points * np.float32(1 + 3e-7), other.sdf, settings)
    one, *others = [np.array([error_of(m.network, m.points, m.sdf) for m in ms]) for ms in (alone, together, moved)]
    return f"{spread(others[0] / one)}; alone with moved samples {spread(others[1] / one)}"


# --- seconds


def steps(findings: Findings, flags: argparse.Namespace) -> None:
    """Microseconds of a step and samples a second: one network, and many at once."""
    rows = [("DAM, SOAP", False, "soap", 1024, count) for count in (1, 32, 8, 64)]
    rows += [("DAM, Adam", False, "adam", 1024, count) for count in (1, 32)]
    rows += [("hash grid, Adam", True, "adam", batch, 1) for batch in (1536, 65536)]
    for name, has_encoding, optimizer, batch, count in rows:
        if findings.seconds_left() < 10 or (flags.small and count > 8):
            continue
        asked = "8 M samples/s" if (optimizer, count) == ("soap", 32) else ""
        plan = has_encoding, optimizer, batch, count
        findings.attempt(f"{name}, batch {batch}, P = {count}", lambda plan=plan: step_time(*plan, flags), asked)


def step_time(has_encoding: bool, optimizer: str, batch: int, count: int, flags: argparse.Namespace) -> str:
    """The mean of the steps TIMED, a refresh of SOAP's bases and the statistics included; seconds until the first."""
    first, last = (2, 6) if flags.small else TIMED
    batch = 100 if flags.small else batch
    # A check after every 200 steps.
    points, sdf = box_samples(batch * 100)
    settings = FitSettings(epochs=200, batch_size=batch, optimizer=optimizer, learning_rate=1e-4)
    settings = replace(settings, loss="relative" if has_encoding else "l1")
    times, done = {}, itertools.count(1)

    def should_stop():
        step = next(done)
        if step in (1, first, last):
            wait_for(flags.device)
            times[step] = time.perf_counter()
        return step == last

    members = []
    for number in range(count):
        grid = HashGrid(base_resolution=8) if has_encoding else None
        network = NeuralSDF((64,) if has_encoding else widths_of(flags), encoding=grid).to(flags.device)
        hooks = FitHooks(should_stop=should_stop if number == 0 else None)
        members.append(Member(network, points, sdf, hooks=hooks))
    if flags.device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats(flags.device)
    begun = time.perf_counter()
    with contextlib.suppress(Interrupted):
        fit_batch(members, settings)
    seconds = (times[last] - times[first]) / (last - first)
    a_second = count * batch / seconds
    text = f"{seconds * 1e6:.0f} us, {a_second / 1e6:.2f} M samples/s"
    text += f"; first step after {times[1] - begun:.2f} s"
    if flags.device.startswith("cuda"):
        text += f"; {torch.cuda.max_memory_allocated(flags.device) / 2**30:.2f} GiB"
    return judged(a_second >= ASKED_RATE, text) if (optimizer, count) == ("soap", 32) else text
