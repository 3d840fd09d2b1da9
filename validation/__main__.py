"""python -m validation: run the claims, print their tables, save JSON, figures and a summary."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ._claims import save_claims
from ._runs import Setup
from .summary import write_summary

SCRIPTS = (
    "figure1_linear",
    "figure1_relu",
    "relu_threshold",
    "theorem1",
    "batch_norm_traits",
    "table1",
    "dynamics_trajectories",
    "finite_size",
    "inputs",
    "losses",
)


def main(argv: list[str] | None = None) -> int:
    """Exit status 1 if a claim of the package itself fails; the paper's may."""
    parser = argparse.ArgumentParser(
        prog="python -m validation",
        description="Hold theory against simulation. An interrupted validation resumes when it is "
        "started again with the same output folder.",
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="N = 512, minutes (the default)")
    size.add_argument("--full", action="store_true", help="N = 4096, as in the paper")
    parser.add_argument("--only", choices=SCRIPTS, action="append", help="run this script only")
    parser.add_argument(
        "--output", type=Path, default=Path(__file__).parent / "results", metavar="DIR"
    )
    options = parser.parse_args(argv)
    setup = (Setup.full if options.full else Setup.quick)(options.output)
    setup.output.mkdir(parents=True, exist_ok=True)
    try:
        return run_scripts(options.only or SCRIPTS, setup)
    except KeyboardInterrupt:
        print("interrupted: the same command resumes here", file=sys.stderr)
        return 130


def run() -> None:
    """Run the command and end this process."""
    code = main()
    if code == 130:
        # Runs may still be in compiled code, from which Python before 3.14 cannot end them.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def run_scripts(names: Sequence[str], setup: Setup) -> int:
    """Run, print and store the scripts; 1 if a claim of the package itself fails."""
    failed = False
    for name in names:
        began = time.perf_counter()
        print(f"== {name} ({setup.option})", flush=True)
        claims = import_module(f"validation.{name}").run(setup)
        save_claims(claims, setup.output / f"{name}.json")
        for claim in claims:
            print(claim.table(), end="\n\n")
            failed |= claim.stated_by == "package" and claim.verdict.colour == "red"
        print(f"{name}: {time.perf_counter() - began:.0f} s\n", flush=True)
    print(f"summary: {write_summary(setup.output)}")
    return int(failed)


if __name__ == "__main__":
    run()
