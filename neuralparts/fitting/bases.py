"""The two bases of a weight matrix in which SOAP lets Adam work, of one network or of several stacked ones.

In: gradients. Out: gradients rotated into the bases, steps rotated back, and now and then better bases. On the CPU the
bases of one network start at the eigenvectors and follow them by LAPACK's QR. Torch on a GPU takes one matrix after the
other for both, so there, and for stacked networks, they start at the identity and follow by `cholesky_bases`, which
takes all matrices of a size at once and waits for nothing.
"""

import torch

from neuralparts.fitting.collapse import CollapseError
from neuralparts.network import gradient_dtype

# The running means take every STATISTICS_EVERY-th gradient (soap.py) and keep STATISTICS_DECAY of the past.
STATISTICS_DECAY = 0.95
# Weight of the old basis in a new one, as a fraction of the mean eigenvalue: so a direction in which no gradient has
# been yet stays in the basis.
_KEPT_FRACTION = 1e-7
# Added to a Gram matrix of diagonal 1 in each round of Cholesky's QR, so that it has a Cholesky factor: the first time
# for columns that are nearly dependent, then for rounding.
_SHIFTS = (1e-9, 1e-14)
# Matrices of no less than this fraction of the largest side are padded to it and taken at once.
_LEAST_FILLED = 0.5


class Bases:
    """The two bases of one weight matrix (rows, columns), or of P stacked ones (P, rows, columns), and the running
    means whose eigenvectors they follow.

    state: left_mean and left (..., rows, rows), right_mean and right (..., columns, columns). Basis vectors are
    columns. rounded: True if the matrix's gradients are rounded.

    A rounded step is as good as an exact one. An exact gradient is rotated exactly: rounding would leak from its large
    components into its small ones, which Adam then magnifies. In a rounded gradient that has happened already.
    """

    def __init__(self, matrix: torch.Tensor, rounded: bool):
        *stacked, rows, columns = matrix.shape
        self._is_stacked = bool(stacked)
        like = {"device": matrix.device, "dtype": matrix.dtype}
        self.state = {
            "left_mean": matrix.new_zeros(*stacked, rows, rows),
            "right_mean": matrix.new_zeros(*stacked, columns, columns),
            "left": torch.eye(rows, **like).expand(*stacked, rows, rows).contiguous(),
            "right": torch.eye(columns, **like).expand(*stacked, columns, columns).contiguous(),
        }
        self._step_dtype = gradient_dtype(matrix)
        self._gradient_dtype = self._step_dtype if rounded else matrix.dtype
        self.cache_casts()

    def cache_casts(self) -> None:
        """Keep copies of the bases in the dtypes of their products. To be called whenever `state` changes."""
        left, right = self.state["left"], self.state["right"]
        self._to_bases = left.mT.to(self._gradient_dtype), right.to(self._gradient_dtype)
        self._from_bases = left.to(self._step_dtype), right.mT.to(self._step_dtype)

    def add_statistics(self, gradient: torch.Tensor) -> None:
        """Take a gradient G (..., rows, columns) into the running means of G G^T and G^T G."""
        left, right = self.state["left_mean"], self.state["right_mean"]
        add_to_left, add_to_right = (left.baddbmm_, right.baddbmm_) if self._is_stacked else (left.addmm_, right.addmm_)
        weight = 1 - STATISTICS_DECAY
        add_to_left(gradient, gradient.mT, beta=STATISTICS_DECAY, alpha=weight)
        add_to_right(gradient.mT, gradient, beta=STATISTICS_DECAY, alpha=weight)

    def rotate(self, gradient: torch.Tensor) -> torch.Tensor:
        """A gradient (..., rows, columns) in the bases, in its own dtype."""
        left, right = self._to_bases
        return (left @ gradient.to(self._gradient_dtype) @ right).to(gradient.dtype)

    def add_step(self, matrix: torch.Tensor, step: torch.Tensor) -> None:
        """Add a step (..., rows, columns), given in the bases, to the matrix in place."""
        left, right = self._from_bases
        if self._is_stacked:
            matrix.baddbmm_(torch.bmm(left, step), right)
        else:
            matrix.add_(left @ step.to(self._step_dtype) @ right)

    def replace(self, left: torch.Tensor, right: torch.Tensor, rotated_mean: torch.Tensor) -> None:
        """Take new bases, shaped like the old ones. rotated_mean: (..., rows, columns), rotated into them in place."""
        old_left, old_right = self.state["left"], self.state["right"]
        rotated_mean.copy_((left.mT @ old_left) @ rotated_mean @ (old_right.mT @ right))
        old_left.copy_(left)
        old_right.copy_(right)
        self.cache_casts()


def first_basis(mean: torch.Tensor) -> torch.Tensor:
    """Orthonormal basis (n, n) of the eigenvectors of `mean` (n, n), symmetric, on the CPU, largest eigenvalue first.

    Raises CollapseError where eigh finds that `mean` is not finite.
    """
    try:
        return torch.linalg.eigh(mean).eigenvectors.flip(-1)
    except torch.linalg.LinAlgError as error:
        raise CollapseError("the first step's gradient is not finite: try another --init or --seed") from error


def following_basis(mean: torch.Tensor, basis: torch.Tensor) -> torch.Tensor:
    """Orthonormal basis (n, n) nearer to the eigenvectors of `mean` (n, n) than `basis` is, on the CPU.

    By one orthogonal iteration: a product and a QR.
    """
    return torch.linalg.qr(mean @ basis).Q


def following_bases(means: list[torch.Tensor], bases: list[torch.Tensor]) -> list[torch.Tensor]:
    """`following_basis` of (n, n) or stacked (P, n, n) means and bases of several n, those of similar n at once.

    A mean that is not finite makes its own basis so, and no other one.
    """
    found: list[torch.Tensor] = [None] * len(means)
    for places in _similar([mean.shape[-1] for mean in means]):
        largest = max((means[place] for place in places), key=lambda mean: mean.shape[-1])
        # Of all these, padded by zeros: (bases, n, n) or (bases, P, n, n) of the largest n.
        wholes = [largest.new_zeros(len(places), *largest.shape) for _ in range(2)]
        for whole, tensors in zip(wholes, (means, bases), strict=True):
            own = [tensors[place] for place in places]
            torch._foreach_copy_(_unpadded(whole, own), own)
        new = cholesky_bases(*(whole.view(-1, *largest.shape[-2:]) for whole in wholes)).view_as(wholes[0])
        for place, part in zip(places, _unpadded(new, [means[place] for place in places]), strict=True):
            found[place] = part
    return found


def _unpadded(whole: torch.Tensor, like: list[torch.Tensor]) -> list[torch.Tensor]:
    """Views of the parts (..., n, n) of a padded tensor that have the shapes of `like`."""
    return [part[..., : own.shape[-1], : own.shape[-1]] for part, own in zip(whole, like, strict=True)]


def _similar(sizes: list[int]) -> list[list[int]]:
    """Places of sizes in groups: in each, the smallest size is at least _LEAST_FILLED times the largest."""
    groups: list[list[int]] = []
    for place in sorted(range(len(sizes)), key=lambda place: -sizes[place]):
        if groups and sizes[place] >= _LEAST_FILLED * sizes[groups[-1][0]]:
            groups[-1].append(place)
        else:
            groups.append([place])
    return groups


def cholesky_bases(means: torch.Tensor, bases: torch.Tensor) -> torch.Tensor:
    """The same of means and bases (K, n, n), by Cholesky's QR in float64 (Fukaya et al., 2020: shifted, then again).

    Columns of `bases` that are zero, beside rows and columns of `means` that are, stay zero: those of padding.
    """
    identity = torch.eye(means.shape[-1], dtype=torch.float64, device=means.device)
    kept = means.diagonal(dim1=-2, dim2=-1).mean(-1).mul(_KEPT_FRACTION).clamp_min(torch.finfo(torch.float32).tiny)
    columns = (means @ bases + kept[:, None, None] * bases).double()
    # Columns of length 1, but for those of padding: else the smallest would drown in the largest's rounding.
    columns = columns / columns.norm(dim=-2, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
    for shift in _SHIFTS:
        factor, _ = torch.linalg.cholesky_ex(columns.mT @ columns + shift * identity)  # (K, n, n), lower
        columns = torch.linalg.solve_triangular(factor.mT, columns, upper=True, left=False)
    return columns.to(means.dtype)
