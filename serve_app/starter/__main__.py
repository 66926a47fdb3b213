"""The recipe's commands, in the order they run: data, autoencoder, denoiser, export, evaluate.

It does not know how any of them works.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .run import RecipeError, clock_time

app = typer.Typer(help=__doc__, no_args_is_help=True, add_completion=False)
Folder = Annotated[Path, typer.Option("--folder", help="where the recipe keeps its work")]
Minutes = Annotated[float, typer.Option(help="of training in this phase, over every resume")]
Until = Annotated[str | None, typer.Option(help="end at this time of day instead, like 20:42")]
Again = Annotated[
    bool, typer.Option("--again", help="begin a phase: keep the weights, learn fast again")
]
WORK = Path(__file__).resolve().parents[2] / ".starter"


@app.command()
def data(folder: Folder = WORK) -> None:
    """Fetch pictures, names and the text encoder; draw every picture in every colour."""
    from .data import prepare

    prepare(folder)


@app.command()
def autoencoder(
    folder: Folder = WORK,
    minutes: Minutes = 12.0,
    until: Until = None,
    again: Again = False,
    batch: int = 2,
    max_steps: int = 10**9,
    seed: int = 0,
    threads: int = 2,
) -> None:
    """Train the pixel decoder and encoder; go on from the last checkpoint."""
    from .autoencoder import Training, train

    train(
        folder,
        Training(
            minutes=minutes,
            until=clock_time(until) if until else None,
            again=again,
            batch=batch,
            max_steps=max_steps,
            seed=seed,
            threads=threads,
        ),
    )


@app.command()
def denoiser(
    folder: Folder = WORK,
    minutes: Minutes = 120.0,
    until: Until = None,
    again: Again = False,
    batch: int = 32,
    max_steps: int = 10**9,
    seed: int = 0,
    threads: int = 2,
) -> None:
    """Train the UNet; go on from the last checkpoint."""
    from .denoiser import Training, train

    train(
        folder,
        Training(
            minutes=minutes,
            until=clock_time(until) if until else None,
            again=again,
            batch=batch,
            max_steps=max_steps,
            seed=seed,
            threads=threads,
        ),
    )


@app.command()
def export(folder: Folder = WORK, target: Path | None = None) -> None:
    """Write the pipeline directory that the service loads (default: weights/)."""
    from .export import WEIGHTS
    from .export import export as write

    write(folder, target or WEIGHTS)


@app.command()
def evaluate(
    folder: Folder = WORK,
    weights: Path | None = None,
    concepts: Annotated[int, typer.Option(help="at most; drawn in a shuffled order")] = 1000,
    seeds: int = 2,
    guidance: float = 3.0,
) -> None:
    """Let a judge trained on real pictures name what the weights draw; print the table."""
    import json

    from .evaluate import evaluate as measure
    from .export import WEIGHTS

    table = measure(folder, weights or WEIGHTS, concepts, seeds, guidance)
    print(json.dumps(table, indent=1))


@app.command()
def speed(folder: Folder = WORK, weights: Path | None = None, threads: int = 2) -> None:
    """Print the median seconds of one picture drawn alone: 20 steps with guidance, plain pipeline."""
    import torch

    from .evaluate import Painter
    from .export import WEIGHTS

    torch.set_num_threads(threads)
    print(f"{Painter(weights or WEIGHTS, folder).seconds():.2f} s")


def main() -> None:
    try:
        app()
    except RecipeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
