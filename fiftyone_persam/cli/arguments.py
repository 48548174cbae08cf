"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from typing import Any

from ..engine.choice import BACKENDS

Parser = argparse.ArgumentParser
RUN = "a run's name"


def add_command(
    subparsers: Any, name: str, command: Any, text: str, run: str | None = None
) -> Parser:
    """A command on a dataset, and on a run where ``run`` says what that argument is."""
    parser: Parser = subparsers.add_parser(name, help=text)
    parser.add_argument("dataset", help="a FiftyOne dataset")
    if run is not None:
        parser.add_argument("run", help=run)
    parser.set_defaults(command=command)
    return parser


def add_view(parser: Parser) -> None:
    """Which photos of the dataset."""
    parser.add_argument("--tag", action="append", help="only samples with this tag; repeatable")
    parser.add_argument("--view", help="only samples of this saved view")


def add_model(parser: Parser) -> None:
    """Which model."""
    parser.add_argument("--model", default="sam_lite", help="see `models list`")


def add_device(parser: Parser) -> None:
    """Where the model computes."""
    parser.add_argument("--device", default="auto", help="auto, cuda, mps or cpu")


def add_engine(parser: Parser) -> None:
    """How the work is done."""
    parser.add_argument("--batch-size", type=int, help="photos encoded at once")
    parser.add_argument("--num-workers", type=int, help="threads that load photos")
    parser.add_argument(
        "--backend",
        default="local",
        choices=tuple(BACKENDS),
        help="this process, all CUDA devices of this machine, or a Ray cluster (RAY_ADDRESS)",
    )
    add_cache(parser)


def add_cache(parser: Parser) -> None:
    """--cache, alone or with a folder."""
    parser.add_argument(
        "--cache",
        nargs="?",
        const=True,
        metavar="DIR",
        help="keep encoded photos, so that another run over them needs no encoding",
    )


def add_mask_value(parser: Parser, whose: str) -> None:
    """What of the masks of a label field is the object: a value, or a class."""
    parser.add_argument("--mask-value", type=_mask_value, help=f"which value of {whose} masks")
    parser.add_argument(
        "--mask-class",
        dest="mask_value",
        metavar="NAME",
        help="or which class, by its name in the field's mask_targets",
    )


def _mask_value(text: str) -> int | str:
    return text if text.startswith("#") else int(text)


def add_group_by(parser: Parser) -> None:
    """Which object a photo shows."""
    parser.add_argument("--group-by", metavar="FIELD", help="field that names each object")


def add_sequences(parser: Parser) -> None:
    """Which photos are frames of one sequence, and in which order."""
    parser.add_argument("--sequence-field", metavar="FIELD", help="names each photo's sequence")
    parser.add_argument("--order-field", metavar="FIELD", help="sorts the photos of a sequence")
