"""Bases by Cholesky's QR for many matrices at once, against LAPACK's for one."""

import torch

from neuralparts.fitting.bases import following_bases, following_basis

SIZES = (40, 33, 12, 40, 9)
COUNT = 2


def mean_of(size: int, rank: int, generator: torch.Generator) -> torch.Tensor:
    """A mean (COUNT, n, n) of gradients of so many directions, with eigenvalues over eight powers of ten."""
    directions = torch.linalg.qr(torch.randn(COUNT, size, size, generator=generator)).Q[..., :rank]
    return directions * torch.logspace(0, -8, rank) @ directions.mT


def distance_from_orthonormal(basis: torch.Tensor) -> float:
    return float((basis.mT @ basis - torch.eye(basis.shape[-1])).abs().max())


def test_bases_are_orthonormal_and_those_of_qr():
    generator = torch.Generator().manual_seed(0)
    means = [mean_of(size, size, generator) for size in SIZES]
    bases = [torch.linalg.qr(torch.randn(mean.shape, generator=generator)).Q for mean in means]
    for _ in range(3):
        new = following_bases(means, bases)
        assert max(map(distance_from_orthonormal, new)) < 1e-5
        for mean, basis, found in zip(means, bases, new, strict=True):
            for place in range(COUNT):
                expected = following_basis(mean[place].double(), basis[place].double()).float()
                # Columns of the largest eigenvalues agree but for their signs; float32 hides the smallest.
                cosines = (found[place] * expected).sum(0).abs()
                assert cosines[: len(cosines) // 3].min() > 0.999
        bases = new
    for _ in range(20):
        bases = following_bases(means, bases)
    diagonal = bases[0].mT @ means[0] @ bases[0]
    assert diagonal.diagonal(dim1=-2, dim2=-1).sum() > 0.999 * diagonal.abs().sum()


def test_directions_without_a_gradient_stay_in_the_basis():
    """A unit that is dead now may learn later; a network none of whose gradients has come yet has its basis whole."""
    generator = torch.Generator().manual_seed(1)
    means = [mean_of(size, max(1, size // 4), generator) for size in SIZES] + [torch.zeros(COUNT, 17, 17)]
    for mean in means[:2]:
        mean[:, 5], mean[:, :, 5] = 0, 0
    bases = [torch.eye(mean.shape[-1]).expand_as(mean).contiguous() for mean in means]
    for _ in range(4):
        bases = following_bases(means, bases)
        assert max(map(distance_from_orthonormal, bases)) < 1e-3


def test_a_mean_that_is_not_finite_changes_no_other_basis_and_padding_stays_zero():
    generator = torch.Generator().manual_seed(2)
    means = [mean_of(size, size, generator) for size in SIZES]
    bases = [torch.eye(size).repeat(COUNT, 1, 1) for size in SIZES]
    for basis, mean in zip(bases, means, strict=True):  # padded to one side more
        basis[:, -1, -1], mean[:, -1], mean[:, :, -1] = 0, 0, 0
    sound = following_bases(means, bases)
    assert all(not basis[:, -1].any() and not basis[..., -1].any() for basis in sound)
    means[0][1, 2, 3] = torch.nan
    found = following_bases(means, bases)
    assert not found[0][1].isfinite().all() and torch.equal(found[0][0], sound[0][0])
    assert all(torch.equal(*pair) for pair in zip(found[1:], sound[1:], strict=True))


def test_bases_of_one_network_are_those_of_a_stack_of_one():
    generator = torch.Generator().manual_seed(3)
    means = [mean_of(size, size, generator)[:1] for size in SIZES]
    bases = [torch.eye(size).repeat(1, 1, 1) for size in SIZES]
    alone = following_bases([mean[0] for mean in means], [basis[0] for basis in bases])
    for one, other in zip(alone, following_bases(means, bases), strict=True):
        assert torch.equal(one, other[0])
