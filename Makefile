# make demo        render data of a dance, train, test and write a report
# make demo-robot  do so for the robot
# make test        run the tests
# make test-slow   run the tests that take minutes, including one that sends thirty SIGKILLs
# Every target creates .venv if it is missing.
PYTHON ?= python3
RUN = .venv/bin/python

.PHONY: demo demo-robot test test-slow
demo: .venv/ready demo_data
	$(RUN) Trainer.py --DR demo_data --save_root runs/demo --preset quick --minutes 4 --resume
	$(RUN) Tester.py --DR demo_data --ckpt_path runs/demo
	$(RUN) tools/report.py runs/demo --out runs/demo/report
	@echo
	@echo "Open runs/demo/report/report.html for curves, scores and videos. The GIFs and plots are in runs/demo/test, for example"
	@echo "compare_seq0.gif (ground truth, pose, prediction), strip_seq0.png and psnr_seq0.png."

demo-robot: .venv/ready demo_robot
	$(RUN) Trainer.py --model svg_fp --DR demo_robot --save_root runs/demo_robot --width 8 --batch_size 4 --epoch_size 150 --num_epoch 20 --tfr 0.5 --val_every 4 --resume
	$(RUN) Tester.py --DR demo_robot --ckpt_path runs/demo_robot
	$(RUN) tools/report.py runs/demo_robot --out runs/demo_robot/report
	@echo
	@echo "Open runs/demo_robot/report/report.html for curves, scores and videos. The GIFs and plots are in runs/demo_robot/test."

test: .venv/ready-for-tests
	$(RUN) -m pytest -n auto

test-slow: .venv/ready-for-tests
	$(RUN) -m pytest -m slow -s

demo_data: | .venv/ready
	$(RUN) tools/make_demo_data.py --out demo_data

demo_robot: | .venv/ready
	$(RUN) tools/make_demo_data.py --scene robot --out demo_robot

.venv/ready: requirements.txt
	$(PYTHON) -m venv .venv
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/ready-for-tests: requirements-dev.txt .venv/ready
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@
