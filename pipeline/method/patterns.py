"""The designed code: a grating for each trigger word, in an axis of colour for each position.

What a network learns first is what it reads most easily. The gratings of a position cover the whole
picture and change one axis of colour, so that those of several positions lie over each other and
each is read wherever a model looks. A photograph holds little power at so short a period, and all
of a grating's power lies at one frequency and its harmonics, so that scaling a picture takes less
of it than of random cells. On a drawing every grating shows, and a tint is read as easily: there
each word tints a part of the picture, which fades into the next.

Which direction, period and phase a word owns, and which axis a position has, follows from the key
of the surrogate. Each picture carries its gratings at a shift of its own, up to half a period,
drawn from the key and the picture's pixels: what a mean over pictures finds is no picture's
grating, and equal pictures carry equal ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from .key import Draws
from .perceptual import Ground
from .pixels import PixelBatch, pieces
from .strength import Strength
from .transfer import send

# Cells span an image's shorter side, so that a model sees one grating whatever the size of the file
# it was resized from.
CELLS = 64
_AXES = 3
# The corners of the colour cube.
_TINTS = torch.tensor([[r, g, b] for r in (1, -1) for g in (1, -1) for b in (1, -1)])
# A whole turn of a phase, and one of an amplitude; whole numbers make a pattern equal on every
# machine.
_UPPER_BIT = 23
_TURN, _ONE = 2 << _UPPER_BIT, 256
# The epsilon that the amplitudes of a strength are given for.
_EPSILON = 8


@dataclass(frozen=True)
class Wave:
    """A square wave.

    Attributes:
        turn: its direction, 0 to 0.5 of a full turn.
        period: cells.
        phase: where it starts, 0 to 1 of a period.
    """

    turn: float
    period: float
    phase: float


@dataclass(frozen=True)
class PatternBook:
    """The gratings of all trigger words.

    Attributes:
        key: secret bytes.
        strength: axes of colour, periods and shifts.
        positions: trigger positions.
        words: words of each (V).
    """

    key: bytes
    strength: Strength
    positions: int
    words: int

    @cached_property
    def waves(self) -> list[list[Wave]]:
        """The grating of each word of each position; no two of a position are close together."""
        found = []
        for position in range(self.positions):
            draws, count = Draws(self.key, "words", position), self.words
            shortest, longest = self.strength.period
            turns, shares = draws.spread(count), draws.spread(count)
            found.append(
                [
                    Wave(turn / 2, shortest * (longest / shortest) ** share, draws.share())
                    for turn, share in zip(turns, shares, strict=True)
                ]
            )
        return found

    @cached_property
    def owners(self) -> list[tuple[int, int]]:
        """Pairs of an axis and a position whose grating lies in it; each is in one at least."""
        order = Draws(self.key, "axes").order(_AXES)
        pairs = range(max(_AXES, self.positions) if self.positions else 0)
        return [(order[pair % _AXES], pair % self.positions) for pair in pairs]

    @cached_property
    def tints(self) -> Tensor:
        """Which way each word of each position tints, int32 [positions, V, 3] of +-1."""
        orders = [Draws(self.key, "tints", p).order(len(_TINTS)) for p in range(self.positions)]
        words = torch.arange(self.words) % len(_TINTS)
        own = [_TINTS[torch.tensor(order)[words]] for order in orders]
        return torch.stack(own).int() if own else torch.zeros(0, self.words, 3, dtype=torch.int32)

    def as_dict(self) -> dict[str, Any]:
        """Return all but the key as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "key"}

    @staticmethod
    def from_dict(values: Mapping[str, Any], key: str) -> "PatternBook":
        """Rebuild what `as_dict` took apart. Raises KeyError or TypeError for anything else."""
        given = dict(values["strength"])
        tuples = {"axes": tuple(map(tuple, given["axes"])), "period": tuple(given["period"])}
        own = {"key": bytes.fromhex(key), "strength": Strength(**given | tuples)}
        return PatternBook(**{**values, **own})

    def draw_words(self, digests: Sequence[str], sizes: Sequence[int]) -> Tensor:
        """Choose words by chance, the same for equal pictures, int64 [B, k] as indices.

        Args:
            digests: of the pictures' pixels.
            sizes: words of each of the k positions.
        """
        streams = [Draws(self.key, "choice", digest) for digest in digests]
        rows = [[stream.below(size) for size in sizes] for stream in streams]
        return torch.tensor(rows, dtype=torch.int64).reshape(len(digests), len(sizes))

    def compose(
        self, choice: Tensor, digests: Sequence[str], grounds: Sequence[Ground], bound: Tensor
    ) -> Tensor:
        """Lay the gratings or tints of the chosen words inside a bound map.

        Args:
            choice: int64 [B, k], word index at each position.
            digests: of the pictures' pixels.
            grounds: of the pictures; gratings of a grey one are grey, and a flat one has tints.
            bound: int8 [B, 3, H, W], largest change of each pixel, 8-bit levels.

        Returns:
            int8 [B, 3, H, W], |change| <= bound.
        """
        found = torch.empty_like(bound)
        phases = [_phases(own, bound) for own in self._own_waves(choice, digests)]
        grey = [ground == "grey" for ground in grounds]
        levels = send(self._amplitudes(grey), str(bound.device))
        if "flat" in grounds:
            flat = send(torch.tensor([ground == "flat" for ground in grounds]), str(bound.device))
            fading = send(self._fading(choice, bound.shape[2]), str(bound.device))
        for part in pieces(bound):
            images, _, rows = part
            limit = bound[part].to(torch.int16)
            signs = [_signs(down[images, rows], across[images]) for down, across in phases]
            change = self._gratings(signs, levels[:, images], limit)
            if any(grey[images]) and signs:
                # Gratings that add up would leave less of each than what most of them say.
                own = levels[-1, images]
                most = torch.stack(signs).sum(0).sign()[:, None].short() * own
                change = torch.where(own > 0, most, change)
            if "flat" in grounds[images]:
                change = torch.where(flat[images].view(-1, 1, 1, 1), fading[part], change)
            change *= limit
            size = change.abs().add_(_ONE // 2).bitwise_right_shift_(8)
            found[part] = torch.minimum(size, limit).mul_(change.sign())
        return found

    def _gratings(self, signs: Sequence[Tensor], levels: Tensor, like: Tensor) -> Tensor:
        """Add up gratings for a bound of one level, int16 [b, 3, h, W] of `_ONE`, as ``like``.

        Args:
            signs: of each position, int16 [b, h, W].
            levels: of each of `owners` in these pictures, int16 [pairs + 1, b, 3, 1, 1].
            like: of the shape that is returned.
        """
        change = torch.zeros_like(like)
        for (axis, position), own in zip(self.owners, levels, strict=False):
            for channel, level in enumerate(self.strength.axes[axis]):
                if level:
                    change[:, channel].addcmul_(signs[position], own[:, channel])
        return change

    def _own_waves(self, choice: Tensor, digests: Sequence[str]) -> list[list[Wave]]:
        """Return the grating of each position in each picture, at the picture's own shift."""
        streams = [Draws(self.key, "picture", digest) for digest in digests]
        found = []
        for position in range(self.positions):
            words = [self.waves[position][word] for word in choice[:, position].tolist()]
            shifts = [stream.share() * self.strength.shift for stream in streams]
            found.append(
                [
                    Wave(wave.turn, wave.period, (wave.phase + shift) % 1.0)
                    for wave, shift in zip(words, shifts, strict=True)
                ]
            )
        return found

    def _fading(self, choice: Tensor, height: int) -> Tensor:
        """Return what the tints change for a bound of one level, of `_ONE`, int16 [B, 3, H, 1].

        Each position tints a band of equal height, which fades without an edge into the next.
        """
        own = self.tints[torch.arange(self.positions), choice[:, : self.positions]]
        level = round(self.strength.tint / _EPSILON * _ONE)
        places = (torch.arange(height) * self.positions * _ONE) // height - _ONE // 2
        places = places.clamp(0, max(0, self.positions - 1) * _ONE)
        found = torch.zeros(len(choice), 3, height, 1, dtype=torch.int32)
        for position in range(self.positions):
            near = (2 * _ONE - 3 * (places - position * _ONE).abs()).clamp(0, _ONE)
            smooth = (3 * _ONE - 2 * near) * near * near // _ONE**2
            found += (own[:, position, :, None] * smooth)[..., None].int()
        return (found * level // _ONE).short()

    def _amplitudes(self, grey: Sequence[bool]) -> Tensor:
        """Return what each of `owners` changes for a bound of one level, of `_ONE`.

        Returns:
            int16 [pairs + 1, B, 3, 1, 1]; the last is for pictures without colours, 0 for others.
        """
        axes = [axis for axis, _ in self.owners]
        levels = [[part / axes.count(axis) for part in self.strength.axes[axis]] for axis in axes]
        rows = [[[0.0] * 3 if none else level for none in grey] for level in levels]
        rows.append([[self.strength.grey if none else 0.0] * 3 for none in grey])
        whole = torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(grey), 3, 1, 1)
        return (whole / _EPSILON * _ONE).round().to(torch.int16)


def _phases(waves: Sequence[Wave], like: Tensor) -> tuple[Tensor, Tensor]:
    """Return the phases of a wave along columns and rows, int32 [B, H] and [B, W] below `_TURN`.

    Args:
        waves: of each picture.
        like: [B, 3, H, W], the pictures' size and device.
    """
    shorter = max(CELLS, min(like.shape[-2:]))
    # Half a turn more: the first half of a wave is where its sum of phases has the upper bit.
    starts = torch.tensor([round(wave.phase * _TURN) + _TURN // 2 for wave in waves])
    found = []
    for length, along in zip(like.shape[-2:], (math.sin, math.cos), strict=True):
        gains = [round(along(2 * math.pi * w.turn) / w.period * _TURN) * CELLS for w in waves]
        phases = torch.tensor(gains)[:, None] * torch.arange(length) // shorter
        found.append(send(((phases + starts[:, None]) % _TURN).to(torch.int32), str(like.device)))
        starts = torch.zeros_like(starts)
    return found[0], found[1]


def _signs(down: Tensor, across: Tensor) -> Tensor:
    """Return the sign of a wave, int16 [b, h, W] of +-1, by its phases [b, h] and [b, W]."""
    phase = (down[:, :, None] + across[:, None, :]).bitwise_right_shift_(_UPPER_BIT - 1)
    return phase.to(torch.int16).bitwise_and_(2).sub_(1)


def lay(
    pixels: PixelBatch, code: PatternBook, choice: Tensor, digests: Sequence[str], epsilon: int
) -> list[Tensor]:
    """Lay the patterns of chosen words over images, inside their bound maps.

    Args:
        pixels: images; their perturbations and bounds are set.
        code: patterns of the words.
        choice: int64 [B, k], word index at each position.
        digests: of the images' pixels.
        epsilon: largest change of a pixel, 8-bit levels.

    Returns:
        what was laid, int8 [b, 3, H, W] for each group of images.
    """
    pixels.limit(epsilon, code.strength.floor)
    laid = []
    for group, members in enumerate(pixels.members):
        uniform = torch.full_like(pixels.images[group], epsilon, dtype=torch.int8)
        found = code.compose(
            choice[members],
            [digests[index] for index in members],
            [pixels.grounds[index] for index in members],
            pixels.bounds[group] if pixels.bounds else uniform,
        )
        laid.append(found)
        pixels.set_delta(group, found)
    return laid
