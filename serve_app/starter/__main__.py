"""The recipe's commands, in the order they run: data, autoencoder, denoiser, export, evaluate.

It does not know how any of them works.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .errors import RecipeError
from .run import clock_time

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Folder = Annotated[Path, typer.Option("--folder", help="where the recipe keeps its work")]
Minutes = Annotated[float, typer.Option(help="of training in this phase, over every resume")]
Until = Annotated[str | None, typer.Option(help="end at this time of day instead, like 20:42")]
Again = Annotated[
    bool, typer.Option("--again", help="begin a phase: keep the weights, learn fast again")
]
WORK = Path(__file__).resolve().parents[2] / ".starter"


Device = Annotated[str, typer.Option(help="cpu or cuda; bf16 on the latter")]
Workers = Annotated[int, typer.Option(help="processes that write captions; 0: none beside")]


@app.command()
def data(
    folder: Folder = WORK,
    tiles: Annotated[
        Path | None, typer.Option(help="pixel art: a folder or tar file of the Crawl tiles (CC0)")
    ] = None,
) -> None:
    """Fetch pictures, names and the text encoder; write one file of sprites."""
    from .data import prepare

    prepare(folder, tiles)


@app.command()
def autoencoder(
    folder: Folder = WORK,
    minutes: Minutes = 30.0,
    until: Until = None,
    again: Again = False,
    batch: int = 8,
    lr: float = 2e-3,
    max_steps: int = 10**9,
    seed: int = 0,
    device: Device = "cpu",
    workers: Workers = 0,
) -> None:
    """Train the pixel decoder and encoder; go on from the last checkpoint."""
    from .autoencoder import train
    from .training import Training

    end = clock_time(until) if until else None
    train(
        folder,
        Training(minutes, end, again, batch, lr, 100, seed, device, workers, 180.0, max_steps),
    )


@app.command()
def denoiser(
    folder: Folder = WORK,
    minutes: Minutes = 120.0,
    until: Until = None,
    again: Again = False,
    batch: int = 32,
    lr: float = 2e-3,
    max_steps: int = 10**9,
    seed: int = 0,
    device: Device = "cpu",
    workers: Workers = 0,
    reuse: Annotated[int, typer.Option(help="times that a picture is learned from")] = 1,
    fused: Annotated[
        bool, typer.Option(help="compile the UNet first, which takes a minute")
    ] = False,
) -> None:
    """Train the UNet; go on from the last checkpoint."""
    from .denoiser import train
    from .training import Training

    end = clock_time(until) if until else None
    train(
        folder,
        Training(
            minutes,
            end,
            again,
            batch,
            lr,
            100,
            seed,
            device,
            workers,
            180.0,
            max_steps,
            reuse,
            fused,
        ),
    )


@app.command()
def export(folder: Folder = WORK, target: Path | None = None) -> None:
    """Write the pipeline directory that the service loads (default: weights/)."""
    from .export import WEIGHTS
    from .export import export as write

    write(folder, target or WEIGHTS)


@app.command()
def words(
    weights: Path | None = None,
    folder: Folder = WORK,
    names: Annotated[Path | None, typer.Option(help="another list than vocabulary.txt")] = None,
) -> None:
    """Write the vocabulary beside the weights, by which orders are told what the model knows."""
    from . import data as recipe
    from .captions import read_vocabulary
    from .export import WEIGHTS
    from .sources import wordnet_folder
    from .sprites import Sprites
    from .word_table import rendered, spoken, write
    from .wordnet import WordNet

    concepts = spoken(read_vocabulary((names or recipe.VOCABULARY).read_text()))
    things = concepts + rendered(Sprites.load(folder / "sprites.npz").about, concepts)
    net = WordNet.load(wordnet_folder(folder / "raw"))
    vocabulary = write(weights or WEIGHTS, net, things, len(concepts))
    print(f"{len(vocabulary.things)} things, {len(vocabulary.neighbours)} nouns near them")


@app.command()
def pack(target: Path, folder: Folder = WORK) -> None:
    """Write the trained UNet in files below 16 MB."""
    from .export import pack as write

    write(folder, target)


@app.command()
def unpack(source: Path, folder: Folder = WORK) -> None:
    """Read what `pack` wrote on another machine, to export it here."""
    from .export import unpack as read

    read(source, folder)


@app.command()
def judge(
    folder: Folder = WORK,
    minutes: Minutes = 15.0,
    batch: int = 64,
    seed: int = 0,
    device: Device = "cpu",
    workers: Workers = 0,
    max_steps: int = 10**9,
) -> None:
    """Train the network that names what pictures show, on the sets' own pictures alone."""
    from .classifier import train
    from .training import Training

    train(
        folder,
        Training(minutes, None, False, batch, 2e-3, 50, seed, device, workers, 1e9, max_steps),
    )


@app.command()
def evaluate(
    folder: Folder = WORK, weights: Path | None = None, device: Device = "cpu", steps: int = 20
) -> None:
    """Let the judge name what the weights draw; print the table, and write the sheets behind it."""
    import json

    from .evaluate import evaluate as measure
    from .export import WEIGHTS

    print(json.dumps(measure(folder, weights or WEIGHTS, device, steps), indent=1))


@app.command()
def speed(weights: Path | None = None, threads: int = 2, steps: int = 20) -> None:
    """Print the median seconds of one picture drawn alone: with guidance, plain pipeline."""
    import torch

    from .evaluate import Painter
    from .export import WEIGHTS

    torch.set_num_threads(threads)
    print(f"{Painter(weights or WEIGHTS, steps=steps).seconds():.2f} s")


def main() -> None:
    try:
        app()
    except RecipeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
