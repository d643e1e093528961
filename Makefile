# make demo   everything from nothing: environment, install, the default distillation, its table and pictures
# make app    the app in the browser, on this machine
# make test   the tests, but for those marked as slow
# make test-all   those too
# make check  style, types, and the order of the layers
# make lock   pin what the environment holds now
#
# PYTHON=python3.12 chooses the interpreter; TORCH_INDEX=https://download.pytorch.org/whl/cpu a smaller torch.

PYTHON ?= python3
TORCH_INDEX ?=
VENV ?= .venv
DEMO ?= runs/demo

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SPANDREL := spandrel==0.4.2
TORCH := $(shell grep '^torch==' requirements.lock)

.PHONY: demo app test test-all check lock clean

demo: $(STAMP)
	@if [ -f $(DEMO)/recipe.json ]; then $(BIN)/kdgen resume $(DEMO); \
	else $(BIN)/kdgen distill denoise --out $(DEMO); fi

app: $(STAMP)
	$(BIN)/python app.py

# What is imported is compiled once, not by each of the many processes that the tests begin; threads that wait leave their
# core to others; tests/conftest.py has the order, the longest first, and what stays together.
test: MARKED = -m "not slow"
test test-all: $(STAMP)
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/pytest $(MARKED) -n auto --dist loadfile \
		--no-loadscope-reorder --durations=20

check: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(STAMP)
	{ head -1 requirements.lock; $(BIN)/pip freeze --exclude-editable --exclude spandrel | sed 's/+cpu$$//'; } > $(VENV)/lock
	mv $(VENV)/lock requirements.lock

clean:
	rm -rf $(VENV)

# torch goes first and by its exact version: a looser request may fetch gigabytes. So does what spandrel asks for, of
# which it needs three functions that kdgen stands in for.
$(STAMP): requirements.lock pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/python -m pip install --quiet -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps $(SPANDREL)
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	touch $@
