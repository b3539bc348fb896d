"""ICC profiles made of the numbers with which other standards state an RGB colour space.

Sources: ICC.1:2022 (layout, parametric curves), ITU-T H.273 (numbers of primaries and curves).
"""

import struct

import numpy as np
import numpy.typing as npt

from ..errors import SampleError

Primaries = tuple[float, ...]
Curve = tuple[float, ...]

_D65, _DCI_WHITE = (0.3127, 0.3290), (0.314, 0.351)
# White, red, green and blue as x and y, by their numbers in H.273.
PRIMARIES: dict[int, Primaries] = {
    1: (*_D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06),
    4: (0.310, 0.316, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    7: (*_D65, 0.630, 0.340, 0.310, 0.595, 0.155, 0.070),
    9: (*_D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    11: (*_DCI_WHITE, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*_D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
}
SRGB_CURVE: Curve = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
# A power alone, or sRGB's form: ((a x + b) ^ g where x >= d, else c x), by their numbers in H.273.
# Those of television are shown like sRGB's; those of HDR (16, 18) have no such form.
CURVES: dict[int, Curve] = {
    **dict.fromkeys((1, 6, 13, 14, 15), SRGB_CURVE), 4: (2.2,), 5: (2.8,), 8: (1.0,)
}  # fmt: skip

# Unspecified, which is taken as sRGB's.
_UNSTATED = 2

_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])


def numbered_profile(primaries: int, curve: int) -> bytes:
    """Return the ICC profile of primaries and a curve by their numbers; empty for sRGB's.

    Raises:
        SampleError: ``colour_unsupported``, for those of HDR and of no RGB space.
    """
    if primaries == _UNSTATED:
        primaries = 1
    if curve == _UNSTATED:
        curve = 13
    if primaries not in PRIMARIES or curve not in CURVES:
        raise SampleError(
            "colour_unsupported",
            f"colour primaries {primaries} and curve {curve} (ITU-T H.273) have no plain ICC "
            f"profile; convert the picture to sRGB or embed a profile",
        )
    if (primaries, CURVES[curve]) == (1, SRGB_CURVE):
        return b""
    return rgb_profile(PRIMARIES[primaries], CURVES[curve])


def rgb_profile(primaries: Primaries, curve: Curve) -> bytes:
    """Return an ICC profile (version 4) of an RGB colour space.

    Args:
        primaries: chromaticities x and y of white, red, green and blue.
        curve: from stored to linear values: a power, or five numbers of sRGB's form.

    Raises:
        SampleError: ``colour_unsupported``, for primaries that span no colour space.
    """
    columns, adapted = _to_d50(primaries)
    form = 0 if len(curve) == 1 else 3
    parametric = b"para" + struct.pack(">IHH", 0, form, 0) + _fixed(curve)
    tags = {
        b"desc": _text("RGB"),
        b"cprt": _text("No copyright"),
        b"wtpt": b"XYZ \0\0\0\0" + _fixed(_D50),
        b"chad": b"sf32\0\0\0\0" + _fixed(adapted.ravel()),
        **{
            name: b"XYZ \0\0\0\0" + _fixed(column)
            for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), columns.T, strict=True)
        },
        **dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), parametric),
    }
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    head = struct.pack(
        ">I4sI4s4s4s12s4s24x", start + len(body), b"", 0x04400000, b"mntr", b"RGB ", b"XYZ ",
        struct.pack(">6H", 2000, 1, 1, 0, 0, 0), b"acsp",
    )  # fmt: skip
    return (head + bytes(4) + _fixed(_D50)).ljust(128, b"\0") + table + body


def _to_d50(primaries: Primaries) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the XYZ of red, green and blue under D50 as columns, and what adapts white to it."""
    white, *colours = (
        np.array([x / y, 1.0, (1 - x - y) / y]) if y else np.zeros(3)
        for x, y in zip(primaries[::2], primaries[1::2], strict=True)
    )
    matrix = np.stack(colours, axis=1)
    if abs(np.linalg.det(matrix)) < 1e-6 or not white.all():
        raise SampleError("colour_unsupported", f"primaries {primaries} span no colour space")
    scaled = matrix * np.linalg.solve(matrix, white)
    gains = np.diag((_BRADFORD @ _D50) / (_BRADFORD @ white))
    adapted = np.linalg.inv(_BRADFORD) @ gains @ _BRADFORD
    return adapted @ scaled, adapted


def _text(text: str) -> bytes:
    coded = text.encode("utf-16-be")
    return b"mluc" + struct.pack(">III2s2sII", 0, 1, 12, b"en", b"US", len(coded), 28) + coded


def _fixed(values: npt.ArrayLike) -> bytes:
    """Return numbers as s15Fixed16."""
    whole = np.rint(np.asarray(values, dtype=np.float64) * 65536).astype(">i4")
    return whole.tobytes()
