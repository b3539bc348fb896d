"""``unlearnable data``: shards from corpora as their owners distribute them."""

from __future__ import annotations

from cyclopts import App

app = App(
    name="data", help="Make shards from a corpus as its owner distributes it, or smaller shards."
)


@app.command
def openmoji(out: str, *, size: int = 64, test_share: float = 0.0815, seed: int = 0) -> int:
    """Draw the OpenMoji pictures, named by their emoji names, split by base emoji.

    Args:
        out: URL of the folder for train-*.tar and test-*.tar, empty or new.
        size: Side of a picture in pixels, 16 to 2048.
        test_share: Share of the pictures in the test shards; skin tones stay on one side.
        seed: Seed of the split and of the order.
    """
    from ..pipeline.data.corpora.openmoji import build_openmoji

    counts = build_openmoji(out, size=size, test_share=test_share, seed=seed)
    print(f"{out}: {', '.join(f'{count} {split}' for split, count in counts.items())} samples")
    return 0


@app.command
def folder(
    src: str, out: str, *, captions: str | None = None, samples_per_shard: int = 1000
) -> int:
    """Pack a folder of images and a table of captions into shards.

    Args:
        src: Local folder of images.
        out: URL of the folder for train-*.tar, empty or new, outside SRC.
        captions: CSV, JSONL or Parquet file with an image file and a caption in each row;
            SRC/captions.* when unset.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.folder import build_folder

    report = build_folder(src, out, captions=captions, samples_per_shard=samples_per_shard)
    left_out = len(report.missing) + len(report.duplicates)
    print(
        f"{out}: {report.samples} samples; {left_out} rows and {len(report.uncaptioned)} images "
        "without a counterpart left out"
    )
    return 0


@app.command
def resize(source: str, out: str, *, size: int = 64, format: str = "png") -> int:  # noqa: A002
    """Write shards again with square pictures of one size; all else stays as it is.

    Args:
        source: URL of the input shards.
        out: URL of the folder for the shards, empty or new, outside the input.
        size: Side of a picture in pixels, 16 to 2048: the shorter side is resized to it, the
            middle is cropped.
        format: png, webp (lossless), jpeg, or same.
    """
    from ..pipeline.data.resize import resize_corpus

    count = resize_corpus(source, out, size=size, image_format=format)
    print(f"{out}: {count} samples at {size} x {size} pixels")
    return 0
