"""Fashion-MNIST: how far the Gaussian theory of ridge regression holds for pixels of images.

``python -m validation.fashion_mnist [--data FOLDER] [--output DIR]``. There is no verdict: the
deviations of ridge fits from the prediction are printed, written and drawn as they are. The data
are Debian's package dataset-fashion-mnist, or any folder with the four gzipped idx files.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from replica import LearningCurve, predict_learning_curve
from replica._data_files import read_idx
from replica.plotting import finish_axes, line_style, new_axes, save_figure

DEBIAN = Path("/usr/share/datasets/fashion-mnist")
ZETA = (0.0, 0.1, 1.0, 10.0)
# around the 784 pixels the theory without decay fails worst
SIZES = (50, 100, 200, 400, 600, 700, 785, 900, 1000, 1200, 1600, 2400, 4000, 8000, 16_000, 48_000)


def load(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Training images as rows of 784 pixels from 0 to 1, and whether their class is below 5."""
    images = read_idx(folder / "train-images-idx3-ubyte.gz")
    labels = read_idx(folder / "train-labels-idx1-ubyte.gz")
    return images.reshape(len(images), -1).astype(np.float32) / np.float32(255.0), labels < 5


def write(curve: LearningCurve, output: Path) -> None:
    """Write fashion_mnist.csv and fashion_mnist.png."""
    names = ("zeta", "test_error", "measured_error", "measured_error_se", "deviation")
    names += ("error_rate", "measured_rate", "measured_rate_se")
    with open(output / "fashion_mnist.csv", "w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["decay", "n", *names])
        for i, decay in enumerate(curve.decay):
            for k, n in enumerate(curve.n):
                values = [f"{getattr(curve, name)[i, k]:.6g}" for name in names]
                table.writerow([decay, n, *values])
    figure, (left, right) = new_axes(2)
    left.set_yscale("log")
    left.set_ylim(0.25, 20.0)
    curve.plot(ax=left)
    right.set_xscale("log")
    for i in range(len(curve.decay)):
        style = line_style(i, markersize=4.5, linewidth=1.0)
        right.plot(curve.n, 100.0 * curve.deviation[i], **style)
    right.set_yscale("symlog", linthresh=10.0, linscale=2.0)
    right.axhline(0.0, color="0.5", linewidth=0.9)
    ticks = [-10, -5, -2, 0, 2, 5, 10, 100, 1000, 10_000]
    right.set_yticks(ticks, [f"{tick}" for tick in ticks])
    finish_axes(
        right, xlabel="number of samples  $n$", ylabel="fits above the prediction, per cent"
    )
    save_figure(figure, output / "fashion_mnist.png", dpi=110)


def main(argv: list[str] | None = None) -> int:
    """Exit status 2 if the data are not there."""
    parser = argparse.ArgumentParser(
        prog="python -m validation.fashion_mnist",
        description="Ridge fits of Fashion-MNIST beside their predicted learning curve.",
    )
    parser.add_argument("--data", type=Path, default=DEBIAN, metavar="FOLDER")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    parser.add_argument("--splits", type=int, default=8, help="of the rows (default: 8)")
    options = parser.parse_args(argv)
    if not (options.data / "train-images-idx3-ubyte.gz").is_file():
        print(
            f"Fashion-MNIST is not in {options.data}: nothing was measured. Install the Debian "
            "package dataset-fashion-mnist, or say with --data where its four files are.",
            file=sys.stderr,
        )
        return 2
    X, labels = load(options.data)
    curve = predict_learning_curve(X, labels, n=SIZES, zeta=ZETA, n_splits=options.splits)
    print(curve.report())
    options.output.mkdir(parents=True, exist_ok=True)
    write(curve, options.output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
