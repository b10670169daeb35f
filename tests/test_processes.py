"""tools/comparing/processes.py: programs in parallel, and how they are stopped."""

import subprocess
import sys
from pathlib import Path

import torch

from tests.helpers.comparisons import wait_for
from tools.comparing import processes
from tools.comparing.processes import Process


def test_parallel_runs_have_a_gpu_each_or_share_the_threads(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert processes.process_environments(None) == [{"PYTHONUNBUFFERED": "1"}]
    assert [variables["OMP_NUM_THREADS"] for variables in processes.process_environments(3)] == ["2", "2", "2"]
    assert processes.process_environments(20)[0]["OMP_NUM_THREADS"] == "1"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in processes.process_environments(None)] == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7")
    assert [variables["CUDA_VISIBLE_DEVICES"] for variables in processes.process_environments(3)] == ["5", "GPU-7", "5"]


def test_a_program_stops_when_its_parent_is_killed(tmp_path):
    """Otherwise it would keep its run folder locked for the next comparison."""
    (tmp_path / "program.py").write_text(
        "import signal, sys, threading, time\n"
        "alone = threading.active_count() == 1\n"
        "def main(argv):\n"
        "    assert alone and sys.stdin.read() == ''  # else Windows blocks further imports\n"
        "    signal.signal(signal.SIGTERM, lambda *_: (open(argv[0], 'w').write('saved'), sys.exit(143)))\n"
        "    open('started', 'w').close()\n"
        "    while True: time.sleep(0.05)\n")  # fmt: skip
    parent = start_with_parent(tmp_path, "last words")
    wait_for(tmp_path / "started")
    parent.kill()
    parent.communicate(timeout=120)
    assert (tmp_path / "last words").exists()


def test_a_program_stops_when_its_parent_is_killed_during_its_import(tmp_path):
    (tmp_path / "program.py").write_text(
        "import os, time\n"
        "open('started', 'w').close()\n"
        "while not os.path.exists('go'): time.sleep(0.02)\n"
        "def main(argv): time.sleep(999)\n")  # fmt: skip
    parent = start_with_parent(tmp_path)
    wait_for(tmp_path / "started")
    parent.kill()
    (tmp_path / "go").touch()
    parent.communicate(timeout=120)


def start_with_parent(folder: Path, *argv: str) -> subprocess.Popen:
    """Start a process that starts the program in `folder` as compare.py does; communicate() returns when both have ended."""
    parent = "import subprocess, sys, time; subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE); time.sleep(99)"
    command = [sys.executable, "-c", parent, sys.executable, "-c", processes.CHILD, str(folder), "program", *argv]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE)


def test_ctrl_c_in_a_windows_terminal_does_not_reach_the_programs(tmp_path, monkeypatch):
    """Programs that stopped because of Ctrl-C were once reported as failed."""
    started = {}

    def start(command, **settings):
        started.update(settings)
        return subprocess.CompletedProcess(command, 130)

    monkeypatch.setattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 512, raising=False)
    monkeypatch.setattr(subprocess, "Popen", start)
    process = Process("Trainer", [], log=tmp_path / "log.txt", environment={})
    assert started["creationflags"] == 512
    process.exit_status = lambda: 130
    assert process.failed()
    process.stop_requested = True
    assert not process.failed()
