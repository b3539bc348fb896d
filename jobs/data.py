"""``unlearnable data``: shards from corpora as their owners distribute them."""

from __future__ import annotations

from cyclopts import App

app = App(name="data", help="Make shards from a corpus as its owner distributes it.")


@app.command
def openmoji(out: str, *, size: int = 64, test_share: float = 0.08, seed: int = 0) -> int:
    """Draw the OpenMoji pictures, named by their emoji names, split by base emoji.

    Args:
        out: URL of the folder for train-*.tar and test-*.tar.
        size: Side of a picture in pixels.
        test_share: Share of the pictures in the test shards; skin tones stay on one side.
        seed: Seed of the split.
    """
    from ..pipeline.data.corpora.openmoji import build_openmoji

    build_openmoji(out, size=size, test_share=test_share, seed=seed)
    return 0


@app.command
def folder(src: str, out: str, *, captions: str, samples_per_shard: int = 1000) -> int:
    """Pack a folder of images and a table of captions into shards.

    Args:
        src: Folder of images.
        out: URL of the folder for the shards.
        captions: CSV, JSONL or Parquet file with an image path and a caption in each row.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.folder import build_folder

    build_folder(src, out, captions=captions, samples_per_shard=samples_per_shard)
    return 0
