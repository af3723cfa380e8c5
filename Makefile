# Each target does its own setup: all you need is Python >= 3.11, make and a package index.
PYTHON ?= python3
# HOST and PORT are not taken from the environment, where some shells set them for other purposes: the defaults are the
# service's own settings.
HOST = $(or $(CONVPOOL_HOST),127.0.0.1)
PORT = $(or $(CONVPOOL_PORT),8000)
ARGS =
PYTEST_ARGS ?=
BENCH_ARGS ?=

SERVICE := .venv
DEV := .venv-dev
BROWSER := .venv-browser
PEERS := .venv-peers
TENSORFLOW := .venv-tensorflow
CLIENTS := .venv-clients
GENERATORS := .venv-generators
SUPPLY := .venv-supply
FUZZ := .venv-fuzz
SCALE := .venv-scale
BENCH_SERVICE := .venv-bench-service
BENCH_PEERS := .venv-bench-litserve .venv-bench-bentoml
PIP := -m pip install --quiet --disable-pip-version-check

.PHONY: help run test test-exhaustive test-all check format test-run test-browser test-peers test-tensorflow test-clients \
  test-generators test-scale sbom audit bench bench-service chaos soak fuzz lock clean

help: ## List the targets.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 18

run: $(SERVICE)/.ready ## Serve on HOST and PORT (127.0.0.1:8000); ARGS are more flags of `convpool serve`.
	$(SERVICE)/bin/convpool serve --host $(HOST) --port $(PORT) $(ARGS)

# Measuring branch coverage takes more than half as long again: CI does, and COVERAGE=1 asks for it.
COVERAGE ?= $(CI)
test: $(DEV)/.ready ## Run the tests (ten minutes); with COVERAGE=1, measure branch coverage.
	$(DEV)/bin/python -m pytest --numprocesses 2 --dist worksteal \
	  $(if $(COVERAGE),--cov --cov-report=term:skip-covered) $(PYTEST_ARGS)

test-exhaustive: $(DEV)/.ready ## Run the many more cases that `make test` leaves out.
	$(DEV)/bin/python -m pytest --numprocesses 2 --dist worksteal -m exhaustive $(PYTEST_ARGS)

test-all: test test-exhaustive ## Run both.

check: $(DEV)/.ready ## Check lint, format, types, import rules and the configuration of the commit hooks.
	$(DEV)/bin/ruff check .
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports
	$(DEV)/bin/pre-commit validate-config

format: $(DEV)/.ready ## Format the code and apply the safe lint fixes.
	$(DEV)/bin/ruff check --fix .
	$(DEV)/bin/ruff format .

# The environment of `make run` has only the service's own dependencies; that of the tests could hide a missing one.
test-run: $(SERVICE)/.ready $(DEV)/.ready ## Test a server that runs in the environment of `make run`.
	CONVPOOL_TEST_PYTHON=$(SERVICE)/bin/python $(DEV)/bin/python -m pytest tests/project/test_readme.py $(PYTEST_ARGS)

test-browser: $(BROWSER)/.ready ## Check the pages in headless Chromium (Debian's package chromium).
	$(BROWSER)/bin/python -m pytest --numprocesses 2 --dist loadfile tests/browser $(PYTEST_ARGS)

test-peers: $(PEERS)/.ready ## Compare with PyTorch, and check what docs/where-frameworks-disagree.md says about the others.
	$(PEERS)/bin/python -m pytest tests/peers $(PYTEST_ARGS)

test-tensorflow: $(TENSORFLOW)/.ready ## Check what the docs, and the code that the playground offers, say about TensorFlow (2 GB).
	$(TENSORFLOW)/bin/python -m pytest tests/peers/test_disagreements.py tests/peers/test_snippets.py $(PYTEST_ARGS)

# The server runs with the locked dependencies, some of which the clients need in other versions.
test-clients: $(CLIENTS)/.ready $(DEV)/.ready ## Call /v2 with the clients of Triton and KServe (900 MB).
	CONVPOOL_TEST_PYTHON=$(DEV)/bin/python $(CLIENTS)/bin/python -m pytest tests/inference_clients $(PYTEST_ARGS)

test-generators: $(GENERATORS)/.ready ## Generate clients from /openapi.json, and run them (needs Node, npm, a JDK and libhttpmime-java).
	$(GENERATORS)/bin/python -m pytest tests/generators $(PYTEST_ARGS)

test-scale: $(SCALE)/.ready ## Run several servers behind HAProxy and on Ray, and arrays on Dask (needs haproxy; 1.2 GB).
	$(SCALE)/bin/python -m pytest tests/scale $(PYTEST_ARGS)

sbom: $(SUPPLY)/.ready ## Write the software bill of materials of the service, convpool.cdx.json (CycloneDX).
	PYTHONWARNINGS=ignore $(SUPPLY)/bin/cyclonedx-py requirements --pyproject pyproject.toml --output-reproducible \
	  --output-file convpool.cdx.json requirements/service.txt

# AUDIT_OPTIONAL=1 makes it a success that no database of vulnerabilities can be reached; it says so all the same.
audit: $(SUPPLY)/.ready ## Look the locked packages up in databases of known vulnerabilities.
	$(SUPPLY)/bin/python requirements/audit.py $(if $(AUDIT_OPTIONAL),--optional) requirements/service.txt requirements/build.txt

bench: $(PEERS)/.ready ## Time convpool against PyTorch, ONNX Runtime and JAX (a quarter of an hour); writes benchmarks/results.*.
	$(PEERS)/bin/python -m benchmarks.bench $(BENCH_ARGS)

bench-service: $(BENCH_SERVICE)/.ready $(BENCH_PEERS:=/.ready) ## Time the service against other servers (ten minutes); writes benchmarks/service-results.*.
	$(BENCH_SERVICE)/bin/python -m benchmarks.serving.bench $(BENCH_ARGS)

# How long each attack or the load goes on, in seconds: each program has a default of its own.
SECONDS =
LASTING = $(if $(SECONDS),--seconds $(SECONDS))

chaos: $(DEV)/.ready ## Attack a server in thirty ways, and measure what others notice (ten minutes); ARGS are more flags.
	$(DEV)/bin/python -m reliability.chaos $(LASTING) $(ARGS)

soak: $(DEV)/.ready ## Load a server with 64 mixed clients, and check every answer (ten minutes, or SECONDS).
	$(DEV)/bin/python -m reliability.soak $(LASTING) $(ARGS)

# Changed requests over sockets, then what the description promises, then each codec with a fuzzer that measures coverage.
COUNT =
fuzz: $(FUZZ)/.ready ## Send a server 100,000 changed requests (or COUNT), and fuzz the API and the codecs for SECONDS each.
	$(FUZZ)/bin/python -m reliability.fuzz $(if $(COUNT),--count $(COUNT)) $(ARGS)
	$(FUZZ)/bin/python -m reliability.fuzz_schema $(LASTING)
	$(FUZZ)/bin/python -m reliability.fuzz_codecs $(LASTING)

# The lock files contain only versions and hashes, and no index URL.
lock: ## Update the lock files (needs uv on the PATH).
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --extra service pyproject.toml --output-file requirements/service.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --group build --output-file requirements/build.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --group dev --extra service --extra client pyproject.toml --constraint requirements/service.txt \
	  --constraint requirements/build.txt --output-file requirements/dev.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	  --group browser --extra service --extra client pyproject.toml --constraint requirements/dev.txt \
	  --output-file requirements/browser.txt
	uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --upgrade \
	  --group supply --output-file requirements/supply.txt

# --no-deps, because a lock file is complete: where a package is required with an extra (coverage[toml]), pip's resolver
# may prefer a release newer than the lock, and then reject it for having no hash.
define create_environment
	$(PYTHON) -c 'import sys; sys.exit("convpool needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(@D)
	$(if $(1),$(@D)/bin/python $(PIP) --no-deps --require-hashes $(foreach lock,$(filter requirements/%,$(1)),-r $(lock)))
endef

define install_project
	$(@D)/bin/python $(PIP) --no-deps --no-build-isolation --editable .
	touch $@
endef

$(SERVICE)/.ready: requirements/service.txt requirements/build.txt
	$(call create_environment,$^)
	$(install_project)

$(DEV)/.ready: requirements/dev.txt
	$(call create_environment,$^)
	$(install_project)

$(BROWSER)/.ready: requirements/browser.txt
	$(call create_environment,$^)
	$(install_project)

# The peers are pinned but have no hashes: which build of a version an index offers depends on the platform.
$(PEERS)/.ready: requirements/dev.txt requirements/peers.txt
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/peers.txt
	$(install_project)

$(TENSORFLOW)/.ready: requirements/dev.txt requirements/tensorflow.txt
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/tensorflow.txt
	$(install_project)

$(CLIENTS)/.ready: requirements/dev.txt requirements/clients.txt
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/clients.txt
	$(install_project)

$(GENERATORS)/.ready: requirements/dev.txt requirements/generators.txt $(wildcard tests/generators/package*.json)
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/generators.txt
	cp $(filter %.json,$^) $(@D)
	npm ci --ignore-scripts --silent --prefix $(@D)
	$(install_project)

$(SUPPLY)/.ready: requirements/supply.txt
	$(call create_environment,$^)
	touch $@

$(FUZZ)/.ready: requirements/dev.txt requirements/fuzz.txt
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/fuzz.txt
	$(install_project)

$(SCALE)/.ready: requirements/dev.txt requirements/scale.txt
	$(call create_environment,$<)
	$(@D)/bin/python $(PIP) -r requirements/scale.txt
	$(install_project)

$(BENCH_SERVICE)/.ready: requirements/service.txt requirements/build.txt requirements/bench-service.txt
	$(call create_environment,$(filter-out requirements/bench-%,$^))
	$(@D)/bin/python $(PIP) -r requirements/bench-service.txt
	$(install_project)

# What convpool is compared with there is not installed beside it: the versions that they need may differ.
$(BENCH_PEERS:=/.ready): .venv-%/.ready: requirements/%.txt
	$(call create_environment)
	$(@D)/bin/python $(PIP) -r $<
	touch $@

clean: ## Remove environments and caches.
	rm -rf $(SERVICE) $(DEV) $(BROWSER) $(PEERS) $(TENSORFLOW) $(CLIENTS) $(GENERATORS) $(SUPPLY) $(FUZZ) $(SCALE) $(BENCH_SERVICE) $(BENCH_PEERS)
	rm -rf .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
