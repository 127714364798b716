# The two commands of the README, set-up included; needs Python 3.11 or newer.

PYTHON ?= python3
VENV ?= .venv

.PHONY: demo test lint

demo: $(VENV)/run.done
	$(VENV)/bin/torchrun --standalone train.py

test: $(VENV)/dev.done
	$(VENV)/bin/python -m pytest -q

lint: $(VENV)/dev.done
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

$(VENV)/run.done: requirements.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/dev.done: requirements-dev.txt $(VENV)/run.done
	$(VENV)/bin/python -m pip install --quiet -r requirements-dev.txt
	touch $@
