"""tools/report.py as a user runs it, on small runs of both tasks."""

import base64
import io
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import Tester
import Trainer
from data.clips import Sequence
from tests.helpers.refusals import refused
from tests.helpers.reports import copy_run, edit, read_table, write
from tests.helpers.settings import ROOT, SMALL
from tools import report
from tools.comparing.spec import tomllib
from tools.reporting import charts
from tools.reporting.answers import QUESTIONS
from visualization.videos import draw_comparison, read_comparison, save_gif

pytestmark = pytest.mark.usefixtures("blank_charts")


def test_the_page_is_self_contained_and_has_the_headings_of_the_course(tested, tmp_path):
    page, markdown = write(tested, out=tmp_path / "report", more=("--title", "My report"))
    assert set(re.findall(r"(?:src|href|url)\s*[=(]\s*[\"']?([^\"')>]*)", page)) - {"data:"} == set(
        re.findall(r'"(#[^"]+)"', page)
    )
    assert "http" not in page and "<title>My report</title>" in page
    for heading in ("Introduction", "Implementation details", "Analysis and discussion", "Training and testing protocol", "KL annealing ratio",
                    "Teacher forcing strategy", "Other training strategies", "Sequence 0", "Sequence 1"):  # fmt: skip
        assert f">{heading}</h" in page and f"# {heading}\n" in markdown
    assert all(question in page and question in markdown for question in QUESTIONS.values())
    links = re.findall(r"\]\((.*?)\)", markdown)
    assert len(links) > 10 and {tmp_path / "report" / link for link in links} == set((tmp_path / "report" / "pictures").iterdir())


def test_help_omits_a_default_without_text(capsys):
    """An empty default was once printed as "(default: )"."""
    with pytest.raises(SystemExit):
        report.main(["--help"])
    output = capsys.readouterr().out
    assert "--question" in output and "(default: )" not in output and "(default: 5)" in output


def test_only_differing_settings_are_listed_as_such(tested, tmp_path):
    """Where lr differed, the table once also listed lr_warmup, which all runs share; where tfr differed, every tfr_* flag."""
    asked = tomllib.loads((ROOT / "comparisons" / "optimisers.toml").read_text())
    runs = [copy_run(tested, tmp_path / name, **(asked["flags"] | flags)) for name, flags in asked["settings"].items()]
    _, markdown = write(*runs, out=tmp_path / "optimisers")
    expected = {"optim", "lr", "lr_schedule", "lr_step", "lr_gamma"}
    assert len(runs) > 3 and expected == set().union(*asked["settings"].values())
    for caption in ("Settings that differ", "Other settings that differ"):
        assert set(read_table(markdown.split(f"*{caption}*")[1], "flag")) - {"flag", "---"} == expected
    assert {"lr_warmup", "lr_final"} < set(read_table(markdown.split("<summary>")[1], "flag"))
    forced = copy_run(tested, tmp_path / "forced", tfr=0.3)
    _, markdown = write(tested, forced, out=tmp_path / "forcing")
    assert list(read_table(markdown.split("*Settings that differ*")[1], "flag")) == ["flag", "---", "tfr"]
    assert {"tfr", "tfr_sde", "feedback_noise"} < set(read_table(markdown.split("*Flags of teacher forcing*")[1], "flag"))
    assert "Other settings that differ" not in markdown


def test_paths_and_the_machine_do_not_separate_groups(tested, tmp_path):
    other = copy_run(
        tested,
        tmp_path / "b",
        seed=2,
        DR="/elsewhere",
        save_root="b",
        num_workers=4,
        amp="bfloat16",
        preset="quick",
        resume="auto",
    )
    _, markdown = write(tested, other, out=tmp_path / "report")
    assert "(n = 2)" in markdown and "Settings that differ" not in markdown and "/elsewhere" not in markdown


def test_runs_of_one_seed_are_compared_in_the_flags_of_the_machine(tested, tmp_path):
    """A comparison of precisions was once one group of runs that differ only in the seed. Flags that differ with the seed are ignored."""
    runs = [copy_run(tested, tmp_path / f"{amp}-seed{seed}", seed=seed, amp=amp, save_root=f"{amp}{seed}", num_workers=seed)
            for amp in ("none", "bfloat16") for seed in (1, 2)]  # fmt: skip
    _, markdown = write(*runs, out=tmp_path / "report")
    assert read_table(markdown, "flag") == {"flag": ["none", "bfloat16"], "---": ["---:", "---:"], "amp": ["none", "bfloat16"]}
    assert "none (n = 2)" in markdown and "bfloat16 (n = 2)" in markdown


def test_curves_within_an_epoch_are_drawn_where_a_run_has_them(tested, tmp_path, monkeypatch):
    """Means over an epoch would hide cyclical annealing with one cycle per epoch."""
    fine = [{"epoch": 0.25, "beta": 0.5, "loss": 9.0}, {"epoch": 0.5, "beta": 0.0, "loss": 7.0}]
    runs = [copy_run(tested, tmp_path / "fine", lr=0.5), copy_run(tested, tmp_path / "coarse")]
    (runs[0] / "curves.jsonl").write_text("".join(json.dumps(row) + "\n" for row in fine))
    (runs[1] / "curves.jsonl").unlink(missing_ok=True)  # as an earlier version left the run
    drawn = {}

    def draw(panel, rows, groups, file, *, limits=None, curves):
        drawn.setdefault(panel.title, []).append((curves, limits))

    monkeypatch.setattr(charts, "draw_one_panel", draw)
    write(*runs, out=tmp_path / "report")
    for title in ("KL annealing", "Teacher forcing", "Training loss", "Learning rate"):
        assert drawn[title] == [({"fine": fine, "coarse": []}, None)]
    ((own, limits),) = drawn["Loss and teacher forcing: fine"]
    assert own == {"fine": fine} and limits[1] > 9.0


def test_two_groups_with_the_same_name_are_distinguished(tested, tmp_path):
    runs = [
        copy_run(tested, tmp_path / kind / str(n), seed=n, kl_anneal_type=kind) for kind in ("None", "Cyclical") for n in (1, 2)
    ]
    _, markdown = write(*runs, out=tmp_path / "report")
    assert "None (n = 2)" in markdown and "Cyclical (n = 2)" in markdown


def test_a_run_without_a_test_is_reported_with_the_command_for_it(rendered, trained, tmp_path, capsys):
    run = Path(shutil.copytree(trained, tmp_path / "my run"))
    _, markdown = write(run, out=tmp_path / "report")
    output = capsys.readouterr().out
    command = next(line for line in markdown.splitlines() if "Tester.py" in line).strip()
    assert command in output and "my run has no test results yet" in output and "Sequence" not in markdown
    best = max(json.loads(line)["val_psnr"] for line in (run / "metrics.jsonl").read_text().splitlines())
    assert read_table(markdown, "setting") == {
        "setting": ["validation PSNR, dB"],
        "---": ["---:"],
        "my run": [f"{best:.2f}"],
    }  # and no score of a test
    Tester.main([*shlex.split(command)[2:], "--device", "cpu"])
    assert "Tester.py" not in write(run, out=tmp_path / "report")[1]
    assert "--split val" in write(run, out=tmp_path / "other", more=("--split", "val"))[1]


def test_a_run_that_improved_after_its_test_is_reported(tested, tmp_path, capsys):
    """The report shows the score of the old test next to the new best validation."""
    run = copy_run(tested, tmp_path / "run")
    lines = (run / "metrics.jsonl").read_text().splitlines()
    (run / "metrics.jsonl").write_text(
        "\n".join([*lines, json.dumps(json.loads(lines[-1]) | {"epoch": 2, "val_psnr": 40.0})]) + "\n"
    )
    write(run, out=tmp_path / "report")
    assert re.search(
        r"run was tested after epoch \d, but its best validation is now that of epoch 3. To test it again, run: python Tester",
        capsys.readouterr().out,
    )


def test_a_continued_run_has_the_best_of_its_own_epochs(rendered, trained, tested, tmp_path, capsys):
    """Its rows include the epochs of the run that it continues, but its best.ckpt is from its own epochs.

    The report once kept requesting a test of another epoch.
    """
    first, argv = Path(shutil.copytree(trained, tmp_path / "a")), ["--DR", str(rendered), "--batch_size", "4", *SMALL]
    lines = [json.loads(line) for line in (first / "metrics.jsonl").read_text().splitlines()]
    state = torch.load(first / "last.ckpt", weights_only=True)
    state["history"] = [row | {"val_psnr": 50.0, "val_copy": 9.0} for row in lines]
    torch.save(state, first / "last.ckpt")
    argv += ["--save_root", str(tmp_path / "b")]
    Trainer.main([*argv, "--ckpt_path", str(first), "--num_epoch", "3"])
    Trainer.main([*argv, "--resume", "--num_epoch", "4"])  # it remains true after a resume
    Tester.main(["--DR", str(rendered), "--ckpt_path", str(tmp_path / "b"), "--device", "cpu"])
    own = [json.loads(line) for line in (tmp_path / "b" / "metrics.jsonl").read_text().splitlines()][2:]
    best = max(own, key=lambda row: row["val_psnr"])
    capsys.readouterr()
    _, markdown = write(tmp_path / "b", out=tmp_path / "report")
    assert read_table(markdown, "setting")["b"][0] == f"{best['val_psnr']:.2f}" and "50.00" not in markdown
    assert (
        f"{best['val_psnr']:.2f} (epoch {best['epoch'] + 1})" in read_table(markdown, "run")["b"]
        and "test it again" not in capsys.readouterr().out
    )
    write(tested, tmp_path / "b", out=tmp_path / "both")  # validated on the same frames, unlike the run that it continues


def test_tests_with_several_samples_are_a_separate_setting(tested, tmp_path):
    """The best of 100 samples is not the best of 3."""
    runs = [copy_run(tested, tmp_path / f"run-seed{seed}", seed=seed) for seed in (1, 2)]
    assert "n = 2" in write(*runs, out=tmp_path / "alike")[1]
    edit(runs[1] / "test" / "scores.json", lambda scores: scores["test"].update(samples=100))
    markdown = write(*runs, out=tmp_path / "apart")[1]
    assert "n = 2" not in markdown and "samples (test)" in markdown


@pytest.mark.parametrize("known", [True, False])
def test_videos_without_ground_truth_are_shown(tested, tmp_path, known):
    """An older Tester.py wrote them without a scores.json; the current one writes one without scores."""
    run = copy_run(tested, tmp_path / "run")
    if known:
        about = json.loads((run / "test" / "scores.json").read_text())["test"]
        (run / "test" / "scores.json").write_text(json.dumps({"sequences": [], "per_frame": {}, "test": about}))
    else:
        (run / "test" / "scores.json").unlink()
    for name in ("0", "1"):  # pose and prediction, as Tester.py writes without ground truth
        parts = read_comparison(run / "test" / f"compare_seq{name}.gif", fps=20, height=32, width=64)[1:]
        sequence = Sequence(name, torch.empty(0), torch.from_numpy(parts[0]).permute(0, 3, 1, 2), None)
        save_gif(
            run / "test" / f"compare_seq{name}.gif",
            draw_comparison([torch.from_numpy(parts[1]).permute(0, 3, 1, 2) / 255], sequence),
            fps=20,
        )
    page, markdown = write(run, out=tmp_path / "report")
    assert "From left to right: pose \\| run" in markdown and "psnr_seq0" not in markdown and page.count("<canvas") == 4
    assert "Tester.py" not in markdown  # the test was run


def test_the_windows_of_the_robot_have_no_pose(tested_robot, tmp_path):
    run = copy_run(tested_robot, tmp_path / "longer", niter=3, num_epoch=3)
    page, markdown = write(tested_robot, run, out=tmp_path / "report")
    assert re.search(r"From left to right: ground truth \\\| run \\\| longer", markdown) and "<b>pose" not in page
    assert (
        len(read_table(markdown, "sequence")) == 2 + 4 + 1 and markdown.count("#### Sequence") == 2
    )  # four windows, videos of two
    assert "test per-channel PSNR, dB" in markdown


@pytest.mark.slow
def test_an_mp4_gives_the_same_videos_as_the_gif(tested, tmp_path):
    pytest.importorskip("av")
    import imageio.v3 as iio

    run = copy_run(tested, tmp_path / "run")
    gif = run / "test" / "compare_seq0.gif"
    frames = read_comparison(gif, fps=20, height=32, width=64)
    with Image.open(gif) as opened:
        whole = [np.asarray(opened.convert("RGB")) for i in range(opened.n_frames) if opened.seek(i) is None]
    iio.imwrite(gif.with_suffix(".mp4"), np.stack(whole), plugin="pyav", codec="libx264", fps=20)
    again = read_comparison(gif.with_suffix(".mp4"), fps=20, height=32, width=64)
    assert again.shape == frames.shape and np.abs(again.astype(int) - frames).mean() < 6
    gif.unlink()
    assert "video_seq0.gif" in write(run, out=tmp_path / "report")[1]


def test_the_frames_shown_have_the_right_numbers(tested, tmp_path):
    """The ground truth at a dip in the page is that frame of the GIF."""
    write(tested, out=tmp_path / "report")
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8").split(">Sequence 1</h4>")[0]
    truth, _, predicted = read_comparison(tested / "test" / "compare_seq0.gif", fps=20, height=32, width=64)
    scores = json.loads((tested / "test" / "scores.json").read_text())["per_frame"]["0"]["psnr"]
    moments = re.findall(r"<h5>Frame (\d+): (dip|peak)</h5>(.*?)</div></div>", page, flags=re.DOTALL)
    assert int(next(number for number, kind, _ in moments if scores[int(number) - 1] == min(scores))) == np.argmin(scores) + 1
    for number, _, html in moments:
        shown = [
            np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))
            for content in re.findall(r"data:image/png;base64,([^\"]+)", html)
        ]
        assert np.array_equal(shown[0], truth[int(number)]) and np.array_equal(shown[2], predicted[int(number)])
        assert f"{scores[int(number) - 1]:.2f} dB" in html


def test_images_of_an_earlier_report_are_removed_and_others_stay(tested, tested_robot, tmp_path):
    write(tested_robot, out=tmp_path)
    (tmp_path / "pictures" / "holiday.png").touch()
    write(tested, out=tmp_path)
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert "holiday.png" in names and "video_seq0.gif" in names and not any("--" in name for name in names)


def test_a_missing_test_split_is_reported_once(trained, dataset, tmp_path, capsys):
    """Each run was once listed with a command that could only fail."""
    shutil.rmtree(dataset / "test")
    runs = [copy_run(trained, tmp_path / f"run-seed{seed}", seed=seed, DR=str(dataset)) for seed in (1, 2)]
    _, markdown = write(*runs, out=tmp_path / "report")
    note = f"{dataset} has no folder test/, so there are no test results."
    assert markdown.count(note) == capsys.readouterr().out.count(note) == 1 and "Tester.py" not in markdown


@pytest.mark.parametrize("wrong, expected", [
    ("nowhere", "no such folder"), ("no run", "got a folder without config.json"), ("file", "expected the --save_root of a training run, got a file"), ("config", "expected JSON"), ("flags", "without a known --model"),
    ("size", "frame_H: expected a whole number of at least 1, got None"), ("first epoch", "first_epoch: expected a whole number of at least 0, got x"), ("no epoch", "expected at least one epoch, got none"), ("rows", "line 1 is not"), ("scores", "expected JSON"), ("shape", "run Tester.py again"),
    ("list", "expected an object"), ("twice", "expected each run once, got it twice"), ("task", "expected runs of one task"), ("frames", "expected one frame size, got 64 x 64 and 32 x 64 pixels"), ("data", "expected validation on the same frames"),
    ("sequences", "expected tests of the same sequences"), ("tests", "expected tests on the same frames, got different frames in sequence 0"), ("out", "--out"), ("video", "cannot be read as a video"),
    ("short", "expected ground truth | pose | prediction in 9 frames"), ("words", "expected marks like <!-- your words: psnr -->"), ("show", "--show"),
])  # fmt: skip
def test_wrong_input_ends_in_one_line(tested, tested_robot, tmp_path, capsys, wrong, expected):
    run, more = copy_run(tested, tmp_path / "run", lr=0.5), []
    scores, config = run / "test" / "scores.json", run / "config.json"
    if wrong in ("nowhere", "no run", "file"):
        shutil.rmtree(run)
        run.mkdir() if wrong == "no run" else run.touch() if wrong == "file" else None
    elif wrong in ("config", "scores"):
        (config if wrong == "config" else scores).write_text('{"flags": {')
    elif wrong == "flags":
        edit(config, lambda content: content["flags"].update(model="gan"))
    elif wrong == "size":
        edit(config, lambda content: content["flags"].pop("frame_H"))
    elif wrong == "first epoch":
        edit(config, lambda content: content.update(first_epoch="x"))
    elif wrong in ("no epoch", "rows"):
        (run / "metrics.jsonl").write_text("" if wrong == "no epoch" else "[1]\n")
    elif wrong == "shape":
        edit(scores, lambda content: content["per_frame"]["0"]["psnr"].pop())
    elif wrong == "list":
        scores.write_text("[1]")
    elif wrong == "twice":
        more = [run]
    elif wrong == "task":
        more = [tested_robot]
    elif wrong == "frames":
        edit(config, lambda content: content["flags"].update(frame_H=64))
    elif wrong == "data":
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        (run / "metrics.jsonl").write_text("".join(json.dumps(row | {"val_copy": 9.0}) + "\n" for row in lines))
    elif wrong == "sequences":
        edit(scores, lambda content: content["per_frame"].pop("1") and content["sequences"].pop(1))
    elif wrong == "tests":
        edit(scores, lambda content: content["sequences"][0].update(copy=9.0))
    elif wrong == "out":
        (tmp_path / "out").touch()
    elif wrong == "video":
        (run / "test" / "compare_seq0.gif").write_bytes(b"GIF89a")
    elif wrong == "short":
        edit(scores, lambda content: content["test"].update(fps=10))
    elif wrong == "words":
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "report.md").write_text("# My own")
    elif wrong == "show":
        more = ["--show", "0"]
    assert expected in refused(capsys, report.main, [tested, run, *more, "--out", tmp_path / "out"])
    assert not (tmp_path / "out" / "report.html").exists()
