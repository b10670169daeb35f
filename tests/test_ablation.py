"""benchmarks/ablation.py as a user runs it."""

import pytest

import modules
from benchmarks import ablation
from modules.pose_cvae import PoseCVAE
from tests.helpers.settings import SMALL


@pytest.mark.slow
def test_ablation_trains_blinded_models_and_prints_one_row_each(rendered, tmp_path, capsys, monkeypatch):
    """The blinded class was once registered under a name that does not exist, so the program failed at its start."""
    blinded = []
    original = ablation.Blinded.predict
    monkeypatch.setattr(
        ablation.Blinded, "predict", lambda self, *inputs: blinded.append(self.without) or original(self, *inputs)
    )
    flags = ["--num_epoch", "1", "--batch_size", "2", *SMALL, "--epoch_size", "1", "--train_vi_len", "3"]
    ablation.main(["--DR", str(rendered), "--save_root", str(tmp_path), "--without", "z", "previous frame", "--", *flags])
    header, _, *rows = capsys.readouterr().out.splitlines()[-4:]
    assert header == "| without | PSNR, dB | SSIM |"
    assert [row.split(" | ")[0] for row in rows] == ["| z", "| previous frame"]
    assert set(blinded) == {"z", "previous frame"}
    assert modules.MODEL_CLASSES["pose_cvae"] is PoseCVAE and ablation.Blinded.without == "nothing"
