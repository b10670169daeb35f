"""The root of the repository, and flags and model sizes for short tests."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SMALL_SVG = ["--width", "4", "--g_dim", "8", "--z_dim", "2", "--rnn_size", "16", "--n_past", "2", "--n_future", "3", "--epoch_size", "2",
             "--batch_size", "3", "--niter", "2", "--device", "cpu", "--amp", "none"]  # fmt: skip
SMALL_POSE_CVAE = {"family": "pose_cvae", "frame_dim": 16, "label_dim": 8, "latent_dim": 2, "fused_dim": 24, "pose_window": 3,
                   "condition_mean": [0.9, 0.8, 0.7], "condition_scale": [0.1, 0.2, 0.3]}  # fmt: skip
SMALL = ["--F_dim", "16", "--L_dim", "8", "--N_dim", "2", "--D_out_dim", "24", "--train_vi_len", "5", "--epoch_size", "0", "--distortion", "mse",
         "--device", "cpu", "--amp", "none"]  # fmt: skip
