"""Writes the features of images, and finds those that are most alike.

    python -m effnet_tf embed runs/photos new_photos --out features.npy
    python -m effnet_tf embed runs/photos new_photos --neighbours 5 --picture neighbours.png
    python -m effnet_tf embed lite-pytorch --variant lite0 holiday --query cat.jpg --neighbours 9

Features are the mean over the network's last map, what its classifier reads. A path is a file, a
folder (with all that is below it), a pattern in quotes, or - for a list on standard input. An image
that cannot be used is named and left out. Exit codes: 0 done; 2 bad input, or some of the images
could not be used; 74 a file cannot be written or read; 130 interrupted by hand.
"""

import argparse
import contextlib
import itertools
import sys
from typing import Any

from effnet_tf import extras, isolated, programs
from effnet_tf.errors import InputError, printable
from effnet_tf.inference import apart
from effnet_tf.inference import options as command_line_options

NEIGHBOURS = 5  # of a picture, where nobody says how many


def parse(argv: list[str]) -> argparse.Namespace:
    """Returns the parsed command line."""
    from effnet_tf import command_line

    parser = command_line.parser("python -m effnet_tf embed", __doc__)
    command_line_options.add_network(parser)
    parser.add_argument("paths", nargs="+", metavar="PATH", help="file, folder, pattern, or -")
    parser.add_argument(
        "--out",
        metavar="features.npy|features.csv",
        help="write the features there; beside an .npy file, NAME.names.csv has the images",
    )
    _add_neighbours(parser)
    parser.add_argument(
        "--batch_size",
        type=command_line_options.count,
        default=16,
        help="images that are computed together (default 16)",
    )
    return parser.parse_args(argv[1:])


def _add_neighbours(parser):
    parser.add_argument(
        "--neighbours",
        type=command_line_options.count,
        metavar="N",
        help="print the N images that are nearest to each query, by the cosine of their features",
    )
    parser.add_argument(
        "--query",
        action="append",
        default=[],
        metavar="IMAGE",
        help="whose neighbours; may be given several times (default: the first 12 images)",
    )
    parser.add_argument(
        "--picture", metavar="FILE.png", help=f"draw them ({NEIGHBOURS} without --neighbours)"
    )


def main(options: argparse.Namespace) -> None:
    """Embeds, in a process of its own, which a damaged file may kill."""
    programs.on_interruption(programs.written_files(options.out, options.picture))
    extras.require("Embedding", "tensorflow", "keras")
    _check(options)
    names = ("what", "paths", "out", "neighbours", "query", "picture", "batch_size")
    arguments = {name: getattr(options, name) for name in names}
    arguments["network"] = command_line_options.network_of(options)
    apart.run(work, arguments, reads="-" in options.paths)


def _check(options):
    """Refuses at the door what would do nothing; says how many neighbours a picture has."""
    if options.query and not (options.neighbours or options.picture):
        raise InputError("--query names images whose neighbours are wanted: give --neighbours.")
    if not (options.out or options.neighbours or options.picture):
        raise InputError(
            "Nothing would come of it: give --out for the features, or --neighbours for the images "
            "that are most alike."
        )
    if options.picture:
        apart.check_picture(options.picture)
        options.neighbours = options.neighbours or NEIGHBOURS


def work(
    what: str,
    paths: list[str],
    out: str | None,
    neighbours: int | None,
    query: list[str],
    picture: str | None,
    batch_size: int,
    network: dict[str, Any],
) -> None:
    """Embeds, prints, writes and draws; see the program's options.

    Raises:
        InputError: the network cannot be used; or, after all others, some images could not.
    """
    from effnet_tf import progress

    with progress.starting(isolated.progress.terminal):
        from effnet_tf.inference import embedding, feature_files, finding, subjects, tally
    written: list[str] = []
    if out:
        written = feature_files.files_of(out)  # refused before anything takes long
    subject = subjects.open_subject(what, subjects.Options(**network))
    embedder, kept = embedding.Embedder(subject), tally.Tally()
    finder = finding.Finder(sys.stdin)
    found = embedder.run(finder.find(paths), batch_size)
    nearest = None
    if neighbours:
        nearest, found = _searched(embedder, query, neighbours, found)
    _write(found, finding.count(paths), kept, out, embedder.width, nearest)
    for line in finder.report():
        print(line)
    if written:
        print(f"Wrote {' and '.join(written)}: {kept.good:,} images, {embedder.width:,} features")
    if nearest is not None:
        _tell(nearest, subject, picture)
    kept.check()


def _searched(embedder, query, most, found):
    """Returns (the search for neighbours, all embeddings); the first are queries if need be."""
    from effnet_tf.inference import neighbours

    if not query:
        first = list(itertools.islice(found, neighbours.FIRST))
        return neighbours.Nearest(first, most), itertools.chain(first, found)
    queries = list(embedder.run(query, len(query)))
    for each in queries:
        if each.fault is not None:
            raise InputError(f"--query '{each.image}' cannot be used: {each.fault}.")
    return neighbours.Nearest(queries, most), found


def _write(found, total, kept, out, width, nearest):
    """Goes through all images once."""
    from effnet_tf import progress
    from effnet_tf.inference import feature_files

    with contextlib.ExitStack() as stack:
        users = [kept.add]
        if nearest is not None:
            users.append(nearest.add)
        if out:
            users.append(stack.enter_context(feature_files.opened(out, width)))
        terminal = isolated.progress.terminal
        shown = stack.enter_context(progress.bar("Embedding", total, file=terminal))
        for each in found:
            for use in users:
                use(each)
            if each.fault is not None:
                print(f"{printable(each.image)}: cannot be used: {printable(each.fault)}")
            shown.update()


def _tell(nearest, subject, picture):
    """Prints and draws the neighbours."""
    from effnet_tf.inference import neighbours

    print("\n".join(neighbours.lines(nearest)))
    if picture and nearest.queries and neighbours.draw(nearest, subject, picture):
        print(f"Drew {picture}")
