"""``unlearnable data``: shards from corpora as their owners distribute them."""

from cyclopts import App, Parameter

app = App(
    name="data",
    help="Make shards from a corpus as its owner distributes it, or smaller shards.",
    # The pages of the documentation are made without the command line around this one.
    default_parameter=Parameter(negative_iterable=()),
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
    return _tell(out, counts)


@app.command
def folder(
    src: str,
    out: str,
    *,
    captions: str | None = None,
    samples_per_shard: int = 1000,
    max_left_out: float = 0.01,
) -> int:
    """Pack a folder of images and a table of captions into shards.

    Args:
        src: Local folder of images.
        out: URL of the folder for train-*.tar, empty or new, outside SRC.
        captions: CSV, JSONL or Parquet file with an image file and a caption in each row;
            SRC/captions.* when unset.
        samples_per_shard: Samples in a shard.
        max_left_out: Share of rows without image or caption above which the exit code is 3.
    """
    from ..pipeline.data.corpora.folder import build_folder

    report = build_folder(src, out, captions=captions, samples_per_shard=samples_per_shard)
    print(report)
    return 3 if report.lost > max_left_out else 0


@app.command
def flickr8k(
    src: str, out: str, *, splits: tuple[str, ...] = (), samples_per_shard: int = 1000
) -> int:
    """Pack Flickr8K, one sample a photo with all its captions.

    Args:
        src: Local folder with captions.txt and Images/ (or Flickr8k.token.txt and
            Flicker8k_Dataset/).
        out: URL of the folder for train-*.tar and so on, empty or new, outside SRC.
        splits: Karpathy's dataset_flickr8k.json, or NAME=FILE for text files of image names, e.g.
            test=Flickr_8k.testImages.txt; what none names is train, unless train has a list.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.flickr import build_flickr8k

    return _tell(out, build_flickr8k(src, out, splits, samples_per_shard))


@app.command
def flickr30k(
    src: str, out: str, *, splits: tuple[str, ...] = (), samples_per_shard: int = 1000
) -> int:
    """Pack Flickr30K, one sample a photo with all its captions.

    Args:
        src: Local folder with results.csv and flickr30k_images/.
        out: URL of the folder for train-*.tar and so on, empty or new, outside SRC.
        splits: Karpathy's dataset_flickr30k.json, or NAME=FILE for text files of image names;
            what none names is train, unless train has a list.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.flickr import build_flickr30k

    return _tell(out, build_flickr30k(src, out, splits, samples_per_shard))


@app.command
def coco(src: str, out: str, *, splits: tuple[str, ...] = (), samples_per_shard: int = 1000) -> int:
    """Pack the captioned sets of COCO, one sample a photo with all its captions.

    Args:
        src: Local folder with annotations/captions_train2017.json and train2017/, and val2017
            likewise where it is wanted.
        out: URL of the folder for train-*.tar, val-*.tar, empty or new, outside SRC.
        splits: Karpathy's dataset_coco.json, or NAME=FILE for text files of image names; COCO's
            own sets when unset.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.coco import build_coco

    return _tell(out, build_coco(src, out, splits, samples_per_shard))


@app.command
def faces(
    src: str,
    out: str,
    *,
    template: str = "a photo of {name}",
    test_per_identity: int = 2,
    samples_per_shard: int = 1000,
) -> int:
    """Pack pictures of people, a folder an identity (PubFig, AT&T), captioned with their names.

    Args:
        src: Local folder with a folder of pictures for each identity, which is named after it.
        out: URL of the folder for train-*.tar and test-*.tar, empty or new, outside SRC.
        template: The caption; {name} stands for the identity's name.
        test_per_identity: The last so many pictures of each identity go to the test shards.
        samples_per_shard: Samples in a shard.
    """
    from ..pipeline.data.corpora.faces import build_faces

    counts = build_faces(src, out, template, test_per_identity, samples_per_shard)
    return _tell(out, counts)


@app.command
def parquet(
    src: str,
    out: str,
    *,
    image_column: str = "image",
    caption_column: str = "caption",
    drop: tuple[str, ...] = (),
    samples_per_shard: int = 1000,
    max_left_out: float = 0.01,
) -> int:
    """Pack Parquet tables of images and captions, as `datasets` and the Hub have them.

    Args:
        src: URL of a table, a folder of tables, or a glob; hf://datasets/OWNER/NAME too.
        out: URL of the folder for train-*.tar and so on, empty or new, outside SRC.
        image_column: Column of the images: a struct with bytes and path, or bytes.
        caption_column: Column of the captions: a text, or a list of texts.
        drop: Columns to leave out; all others go into a sample's .json file.
        samples_per_shard: Samples in a shard.
        max_left_out: Share of rows without image or caption above which the exit code is 3.
    """
    from ..pipeline.data.corpora.image_tables import Columns, build_tables

    columns = Columns(image_column, caption_column, drop)
    report = build_tables(src, out, columns, samples_per_shard)
    _tell(out, report.counts)
    print(f"{len(report.left_out)} of {report.rows} rows left out")
    return 3 if report.lost > max_left_out else 0


@app.command
def export(
    source: str,
    out: str,
    *,
    like: str,
    image_column: str = "image",
    caption_column: str = "caption",
) -> int:
    """Write shards that `data parquet` made, or their protected copy, as Parquet tables again.

    Args:
        source: URL of the shards.
        out: URL of the folder for the tables, one a shard, empty or new, outside SOURCE.
        like: URL of the tables that `data parquet` read; columns and types are taken from there.
        image_column: Column of the images.
        caption_column: Column of the captions.
    """
    from ..pipeline.data.corpora.image_tables import Columns, export_tables

    count = export_tables(source, out, like, Columns(image_column, caption_column))
    print(f"{out}: {count} rows")
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


def _tell(out: str, counts: dict[str, int]) -> int:
    print(f"{out}: {', '.join(f'{count} {split}' for split, count in counts.items())} samples")
    return 0
