# `make run` plans a real model through the service; `make test` runs every test, `make check` the
# fast ones. Each sets up what it needs.
PYTHON ?= python3
VENV ?= .venv
READY := $(VENV)/.ready
BIN := $(VENV)/bin
FUZZ_EXAMPLES ?= 80000
FUZZ_REQUESTS ?= 200

# Tests start many processes: each would compile every module anew.
unexport PYTHONDONTWRITEBYTECODE

NPM := $(shell command -v npm)
NODE_READY := node_modules/.package-lock.json
SUDO := $(shell test "$$(id -u)" = 0 || echo sudo)

.PHONY: run test check coverage fuzz lint docs bench install-size screenshots gpu-bench vulkan postgresql chromium jail faketime generate lock secrets clean

run: $(READY)
	$(BIN)/layout-planner demo

# Three at a time, on two cores: many tests wait for disks and for servers.
test: $(READY) vulkan postgresql chromium jail faketime
	$(BIN)/python -m pytest -n 3 --dist loadgroup

# Lint, types and the tests that need no more than Python: while one works. The rest is 'make test'.
check: lint
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup --fast

# Lines that tests run, those in processes that they start included.
coverage: $(READY) vulkan postgresql chromium jail faketime
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q -n 2 --dist loadgroup
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report --skip-covered --sort=cover

fuzz: $(READY)
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q -n 2 --dist worksteal tests/planner/vkgraph/test_hostile.py tests/schema/test_hostile_bytes.py tests/schema/test_executorch_program.py
	FUZZ_REQUESTS=$(FUZZ_REQUESTS) $(BIN)/python -m pytest -q tests/api/http/test_schemathesis.py

lint: $(READY) $(if $(NPM),$(NODE_READY))
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/rooms.py --check
	$(BIN)/python -m schema.generate --check
	$(if $(NPM),npm run --silent lint,@echo "without npm, the dashboard's scripts are not checked")

# The documentation as a site, in site/. A broken link is an error.
docs: $(READY)
	$(BIN)/mkdocs build --strict

bench: $(READY) chromium
	$(BIN)/layout-planner bench models --profile bytes -o benchmarks/models.md
	$(BIN)/layout-planner bench lowering segformer_b0 segformer_b0_eager vit_s_encoder unet lstm -o benchmarks/lowering.md
	$(BIN)/layout-planner bench webgpu --small -o benchmarks/webgpu.md
	$(BIN)/layout-planner bench replan -o benchmarks/replan.md
	$(BIN)/layout-planner bench answers --checks 6 -o benchmarks/answers.md
	$(BIN)/layout-planner bench solver --seconds 1 --seconds 5 -o benchmarks/solver.md
	$(BIN)/layout-planner bench solver --parts --quick -o benchmarks/solver-parts.md
	$(BIN)/layout-planner bench profiles -o benchmarks/profiles.md
	$(BIN)/layout-planner bench defaults -o benchmarks/defaults.md
	$(BIN)/layout-planner bench calibrations -o benchmarks/calibrations.md
	$(BIN)/layout-planner bench explore -o benchmarks/explore.md
	$(BIN)/layout-planner bench tune --devices 4 -o benchmarks/tune.md
	$(BIN)/layout-planner bench jobs -o benchmarks/jobs.md
	$(BIN)/layout-planner bench service -o benchmarks/service.md
	$(BIN)/layout-planner bench dashboard -o benchmarks/dashboard.md

# What an installation takes, with and without extras.
install-size: $(READY)
	$(BIN)/layout-planner bench install $(addprefix --extra ,plot gpu serve export) -o benchmarks/install.md

# The pictures of the dashboard in the documentation, with real models planned for them.
screenshots: $(READY) chromium
	$(BIN)/layout-planner bench screenshots docs/images

# Tables and profile of this machine's GPU: make gpu-bench GPU=h200.
GPU ?= lavapipe
gpu-bench: $(READY) vulkan
	$(BIN)/layout-planner gpu bench -o benchmarks/gpu-$(GPU).md
	$(BIN)/layout-planner calibrate --name $(GPU) -o planner/costs/profiles/$(GPU).json --report benchmarks/calibrate-$(GPU).md

# The tests run on a real Vulkan driver: Mesa's software one where there is no other.
vulkan: $(READY)
	$(BIN)/layout-planner gpu info --backend vulkan >/dev/null 2>&1 || test "$$(uname)" != Linux || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q mesa-vulkan-drivers libvulkan1; }

# Tests of the store start a PostgreSQL of their own, from Debian's package.
postgresql:
	ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || test "$$(uname)" != Linux || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q postgresql; }

# Tests of the dashboard drive a real browser, from Debian's package.
chromium:
	command -v chromium >/dev/null 2>&1 || test "$$(uname)" != Linux || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q chromium; }

# What planning processes are shut in with.
jail:
	command -v bwrap >/dev/null 2>&1 || test "$$(uname)" != Linux || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q bubblewrap libseccomp2; }

# A test moves the clock of a server.
faketime:
	ls /usr/lib/*/faketime/libfaketime.so.1 >/dev/null 2>&1 || test "$$(uname)" != Linux || \
	{ $(SUDO) apt-get update -q && $(SUDO) apt-get install -y -q libfaketime; }

generate: $(READY)
	$(BIN)/python -m schema.generate

# What the image is made of, with hashes. TORCH=cpu takes PyTorch's own builds, without CUDA.
TORCH ?=
lock: $(READY)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --system-certs \
	  --custom-compile-command 'make lock' $(if $(TORCH),--torch-backend $(TORCH)) --extra serve --extra export --extra s3 --extra telemetry pyproject.toml -o docker/requirements.txt

# The password of the database in the compose file. Containers have users of their own, who must read
# the file: it is the folder that keeps others out.
secrets: docker/secrets/database_password
docker/secrets/database_password:
	install -d -m 700 $(@D)
	umask 077 && $(PYTHON) -c 'import secrets; print(secrets.token_hex(24))' > $@.new && chmod 444 $@.new && mv $@.new $@

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $@

# What the dashboard's scripts are checked with; nothing of it is served.
$(NODE_READY): package.json package-lock.json
	npm ci --silent
	touch $@

clean:
	rm -rf $(VENV) node_modules build site *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
