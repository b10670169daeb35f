"""Convert the BAIR robot-pushing TFRecords to folders of PNGs: python tools/convert_bair.py --src FOLDER --out bair_data

The data set is BAIR robot pushing small (Ebert et al. 2017, arXiv 1710.05268), published as bair_robot_pushing_dataset_v0.tar, 30
GB. Unpacked, it consists of softmotion30_44k/{train,test}/traj_0_to_255.tfrecords and so on. Record k of such a file becomes
    OUT/{train,validate,test}/traj_0_to_255.tfrecords/k/{0..29}.png, actions.csv (30 x 4), endeffector_positions.csv (30 x 3)
The result takes about 17 GB in 1.4 million files. The same command resumes a stopped conversion.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the root of the repository

import runtime.startup  # noqa: F401  (must precede torch)

# isort: split
import os

from runtime.cli import COUNT, INDEX, Parser, location
from runtime.files import check_writable
from runtime.program import one_line_errors
from tools.bair.conversion import convert_files, plan_conversion, record_conversion


@one_line_errors
def main(argv: list[str] | None = None) -> None:
    parser = Parser("Convert the BAIR robot-pushing TFRecords to folders of PNGs with actions and positions.")
    parser.add_argument("--src", type=location, required=True, metavar="FOLDER", help="softmotion30_44k, or its parent folder")
    parser.add_argument("--out", type=location, required=True, metavar="FOLDER", help="folder for train, validate and test")
    parser.add_argument(
        "--validate", type=INDEX, default=1, help="number of train files, the last ones, that become the validation split"
    )
    parser.add_argument("--view", default="aux1", choices=["aux1", "main"], help="camera; the SVG paper and the course use aux1")
    parser.add_argument("--workers", type=COUNT, default=os.cpu_count() or 1, help="processes; each converts one file at a time")
    args = parser.parse_args(argv)
    files = plan_conversion(args.src, args.out, validate=args.validate)
    check_writable(args.out, flag="--out")
    record_conversion(args.out, files, view=args.view)
    counts = convert_files(files, view=args.view, workers=args.workers)
    sequences = f"{counts['train']} training, {counts['validate']} validation and {counts['test']} test sequences"
    print(f"{args.out} contains {sequences}, {counts['new']} of them written now")


if __name__ == "__main__":
    main()
