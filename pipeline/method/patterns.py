"""The designed code: a region of the image for each trigger position, a pattern for each word.

What a network learns first is what it reads most easily. A pattern is a grating that changes colour
and a grating that changes brightness. The colours of a photograph drown a plain cast, but hold
little power at so short a period, and all of a grating's power lies at one frequency and its
harmonics, so that scaling a picture takes less of it than of random cells.

Which colour, orientation and period a word owns, and where the regions lie, follows from the key of
the surrogate. Each picture carries its patterns at a shift of its own, drawn from the key and the
picture's pixels: no mean over pictures holds a pattern, and equal pictures carry equal ones.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .key import Draws
from .pixels import PixelBatch
from .strength import Strength
from .transfer import send

# The corners of the colour cube: the only casts that use the whole budget in every channel.
CASTS = [(r, g, b) for r in (1.0, -1.0) for g in (1.0, -1.0) for b in (1.0, -1.0)]
# Cells span an image's shorter side, so that a model sees one grating whatever the size of the file
# it was resized from.
CELLS = 64
# Inverted share of the period: a plain cast of the colour, or a grating of it.
CAST, GRATING = 0.0, 0.5
# A whole turn of a phase, and one of an amplitude; whole numbers make a pattern equal on every
# machine.
_TURN, _ONE = 1 << 24, 256
# The epsilon that the amplitudes of a strength are given for.
_EPSILON = 8
# How far a border between regions may lie from an even division, as a share of a region.
_LOOSE = 0.2
# Chroma axes of YCbCr as red, green, blue: changes along them leave luma (BT.601) as it is.
_CB, _CR = (0.0, -0.344136, 1.772), (1.402, -0.714136, 0.0)

Region = tuple[slice, slice]


def hue(turn: float) -> tuple[float, float, float]:
    """Return the change of colour without luma at ``turn`` (0 to 1), its largest channel +-1."""
    blue, red = math.cos(2 * math.pi * turn), math.sin(2 * math.pi * turn)
    mixed = [blue * cb + red * cr for cb, cr in zip(_CB, _CR, strict=True)]
    largest = max(map(abs, mixed))
    return mixed[0] / largest, mixed[1] / largest, mixed[2] / largest


@dataclass(frozen=True)
class Wave:
    """A square wave.

    Attributes:
        turn: its direction, 0 to 0.5 of a full turn.
        period: cells.
    """

    turn: float
    period: float

    def near(self, draws: Draws, turn: float, ratio: float) -> "Wave":
        """Return a wave at most ``turn`` and a factor of ``ratio`` from this one."""
        turned = self.turn + draws.between(-turn, turn)
        return Wave(turned, self.period * ratio ** draws.between(-1, 1))


@dataclass(frozen=True)
class Pattern:
    """What a word owns: a grating of a colour and one of brightness.

    Attributes:
        colour: change of red, green and blue, the largest +-1.
        cast: the wave that the colour's sign follows.
        luma: the wave that brightness follows.
    """

    colour: tuple[float, float, float]
    cast: Wave
    luma: Wave


@dataclass(frozen=True)
class PatternBook:
    """The patterns of all trigger words.

    Attributes:
        key: secret bytes.
        strength: amplitudes, periods and kind of colours.
        positions: trigger positions that own a region.
        words: words of each (V).
        inverted: share of the cast's period in which it changes sign; 0 leaves plain casts.
    """

    key: bytes
    strength: Strength
    positions: int
    words: int
    inverted: float = 0.5

    @cached_property
    def patterns(self) -> list[list[Pattern]]:
        """The pattern of each word of each position."""
        return [self._position(position) for position in range(self.positions)]

    def as_dict(self) -> dict[str, Any]:
        """Return all but the key as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "key"}

    @staticmethod
    def from_dict(values: Mapping[str, Any], key: str) -> "PatternBook":
        """Rebuild what `as_dict` took apart. Raises KeyError or TypeError for anything else."""
        given = dict(values["strength"])
        periods = {name: tuple(given[name]) for name in ("cast_period", "luma_period")}
        own = {"key": bytes.fromhex(key), "strength": Strength(**given | periods)}
        return PatternBook(**{**values, **own})

    def _position(self, position: int) -> list[Pattern]:
        draws, count = Draws(self.key, "words", position), self.words
        corners = draws.order(len(CASTS))
        hues = [hue(turn / 2) for turn in draws.spread(count)]
        colours = [
            hues[word] if self.strength.casts == "hues" else CASTS[corners[word % len(CASTS)]]
            for word in range(count)
        ]
        casts = _waves(draws, count, self.strength.cast_period)
        lumas = _waves(draws, count, self.strength.luma_period)
        return [Pattern(*own) for own in zip(colours, casts, lumas, strict=True)]

    def regions(self, height: int, width: int) -> list[Region]:
        """Return the rectangle of each position; together they fill the image.

        Borders lie at shares of the image's sides, so that resizing an image resizes its regions.
        """
        draws = Draws(self.key, "layout")
        upright = draws.below(2) == 1
        rows = max(1, round(math.sqrt(self.positions)))
        sizes = [self.positions // rows + (r < self.positions % rows) for r in range(rows)]
        sizes = [sizes[row] for row in draws.order(rows)]
        lines = _cuts(draws, rows, width if upright else height)
        found: list[Region] = []
        for line, size in zip(lines, sizes, strict=True):
            parts = _cuts(draws, size, height if upright else width)
            found += [(part, line) if upright else (line, part) for part in parts]
        return [found[place] for place in draws.order(len(found))]

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
        self, choice: Tensor, digests: Sequence[str], grey: Sequence[bool], bound: Tensor
    ) -> Tensor:
        """Lay out the patterns of the chosen words inside a bound map.

        Args:
            choice: int64 [B, k], word index at each position.
            digests: of the pictures' pixels.
            grey: which pictures have no colour; their patterns have none either.
            bound: int8 [B, 3, H, W], largest change of each pixel, 8-bit levels.

        Returns:
            int8 [B, 3, H, W], |change| <= bound.
        """
        height, width = bound.shape[-2:]
        found = torch.empty_like(bound)
        streams = [Draws(self.key, "picture", digest) for digest in digests]
        for position, region in enumerate(self.regions(height, width)):
            own = [self.patterns[position][word] for word in choice[:, position].tolist()]
            laid = [self._own(*pair) for pair in zip(own, streams, strict=True)]
            casts = _signs([p.cast for p in laid], streams, self.inverted, region, bound)
            lumas = _signs([p.luma for p in laid], streams, 0.5, region, bound)
            amplitudes = [self._amplitudes(*pair) for pair in zip(laid, grey, strict=True)]
            parts = send(torch.tensor(amplitudes, dtype=torch.int32), str(bound.device))
            cast, luma = parts[..., None, None].unbind(1)
            limit = bound[(..., *region)]
            change = (cast * casts + luma * lumas) * limit
            change = change.sign() * ((change.abs() + _ONE // 2) >> 8)
            found[(..., *region)] = change.clamp_(-limit, limit).to(torch.int8)
        return found

    def _own(self, pattern: Pattern, draws: Draws) -> Pattern:
        """Return a picture's own form of a pattern."""
        colour, vary = pattern.colour, self.strength.vary / 4 / self.words
        # A plain cast has no shift. A drawn sign takes its place where no two words' colours are
        # each other's opposite.
        if draws.below(2) and not self.inverted and self.strength.casts == "hues":
            colour = -colour[0], -colour[1], -colour[2]
        cast, luma = (
            wave.near(draws, vary / 2, (longest / shortest) ** vary)
            for wave, (shortest, longest) in (
                (pattern.cast, self.strength.cast_period),
                (pattern.luma, self.strength.luma_period),
            )
        )
        return Pattern(colour, cast, luma)

    def _amplitudes(self, pattern: Pattern, grey: bool) -> tuple[list[int], list[int]]:
        """Return what each channel's gratings change for a bound of one level, of `_ONE`."""
        own = self.strength
        cast = [0.0] * 3 if grey else [part * own.cast for part in pattern.colour]
        luma = own.grey if grey else own.luma
        return [round(part / _EPSILON * _ONE) for part in cast], [round(luma / _EPSILON * _ONE)] * 3


def _waves(draws: Draws, count: int, periods: tuple[float, float]) -> list[Wave]:
    """Draw waves whose directions and periods lie well apart."""
    shortest, longest = periods
    turns, shares = draws.spread(count), draws.spread(count)
    return [
        Wave(turn / 2, shortest * (longest / shortest) ** share)
        for turn, share in zip(turns, shares, strict=True)
    ]


def _cuts(draws: Draws, count: int, side: int) -> list[slice]:
    """Divide ``side`` pixels into ``count`` parts of nearly equal size."""
    inner = [round((i + draws.between(-_LOOSE, _LOOSE)) * side / count) for i in range(1, count)]
    edges = [0, *inner, side]
    return [slice(first, end) for first, end in pairwise(edges)]


def _signs(
    waves: Sequence[Wave], streams: Sequence[Draws], inverted: float, region: Region, like: Tensor
) -> Tensor:
    """Return the sign of a wave in each picture at a drawn shift, int32 [B, 1, h, w] of +-1.

    Args:
        waves: of each picture.
        streams: what its shift is drawn from.
        inverted: share of the period that is -1.
        region: where in a picture.
        like: [B, 3, H, W], the pictures' size and device.
    """
    shorter = max(CELLS, min(like.shape[-2:]))
    starts = torch.tensor([round(stream.share() * _TURN) for stream in streams])
    phases = []
    for part, along in zip(region, (math.sin, math.cos), strict=True):
        gains = [round(along(2 * math.pi * w.turn) / w.period * _TURN) * CELLS for w in waves]
        places = torch.arange(part.start, part.stop)
        phases.append(torch.tensor(gains)[:, None] * places // shorter)
    rows = send(((phases[0] + starts[:, None]) % _TURN).to(torch.int32), str(like.device))
    columns = send((phases[1] % _TURN).to(torch.int32), str(like.device))
    phase = (rows[:, None, :, None] + columns[:, None, None, :]) % _TURN
    return torch.where(phase < round((1 - inverted) * _TURN), 1, -1).to(torch.int32)


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
        the signs, int8 [b, 3, H, W] for each image size.
    """
    pixels.limit(epsilon, code.strength.floor)
    signs = []
    for group, members in enumerate(pixels.members):
        uniform = torch.full_like(pixels.images[group], epsilon, dtype=torch.int8)
        found = code.compose(
            choice[members],
            [digests[index] for index in members],
            [pixels.grey[index] for index in members],
            pixels.bounds[group] if pixels.bounds else uniform,
        )
        signs.append(found.sign())
        pixels.set_delta(group, found)
    return signs
