# Six commands, the same here and in CI. Works with make 3.81 and any POSIX shell.
#
#   make run     the demo: local targets, three regions, an outage to approve
#   make test    every test but the long counts; ARGS="tests/rules -k yaml" chooses
#   make check   formatter, linter, types and import contracts
#   make bench   every benchmark; NAME=... chooses one
#   make faults  the long counts: servers and processes killed at random; NAME=... chooses one
#   make docs    what is generated in docs/, and whether its links and commands hold

PYTHON ?= python3
VENV = .venv
RUN = $(VENV)/bin/python
INSTALL = $(RUN) -m pip install -qq --disable-pip-version-check --require-hashes
# A test that hangs shows its stack and ends, instead of everything waiting for it.
HANGS = -o faulthandler_timeout=120 -o faulthandler_exit_on_timeout=true
FAILED = { code=$$?; test $$code -ne 5 || echo "No test was found: look at ARGS and at the markers"; exit $$code; }

.PHONY: run test check bench faults docs

run: $(VENV)/run.stamp
	@wait=$$(command -v timeout >/dev/null && echo timeout 300); \
		UPBEAT_CHROMIUM="$${UPBEAT_CHROMIUM:-$$($$wait sh .ci/chromium --install || echo none)}" \
		$(VENV)/bin/upbeat demo $(ARGS) || test $$? -eq 130

test: $(VENV)/dev.stamp
	@CHROMIUM="$$(sh .ci/chromium --install || echo none)" $(RUN) -m pytest -n "$$(sh .ci/cores)" \
		--dist worksteal -m "not slow" $(HANGS) $(if $(CI),-ra --durations=10) $(ARGS) || $(FAILED)

check: $(VENV)/dev.stamp
	@sh .ci/check $(RUN)

bench: $(VENV)/dev.stamp
	@$(RUN) -m benchmarks $(NAME) $(ARGS)

faults: $(VENV)/dev.stamp
	@$(RUN) -m tests.faults $(NAME) $(ARGS)
	@$(if $(NAME),true,$(RUN) -m pytest -m slow || test $$? -eq 5)

docs: $(VENV)/dev.stamp
	@$(RUN) docs/generate.py
	@$(RUN) -m pytest tests/docs $(ARGS)

# The folder of installed things. A stamp is older than what it stands for only when that changed since.
$(VENV)/python.stamp:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Upbeat needs Python 3.11 or later: make PYTHON=python3.12 (or where yours is)"; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ echo "Python cannot make virtual environments; on Debian: apt-get install python3-venv"; exit 1; }
	@touch $@

$(VENV)/checkout.stamp: $(VENV)/python.stamp pyproject.toml .ci/checkout.py
	@$(RUN) .ci/checkout.py
	@touch $@

$(VENV)/run.stamp: requirements.txt $(VENV)/checkout.stamp
	@test $(VENV)/dev.stamp -nt requirements.txt || { \
		echo "Installing what Upbeat needs into $(VENV): about 60 locked packages, once"; \
		$(INSTALL) -r requirements.txt; }
	@touch $@

$(VENV)/dev.stamp: requirements-dev.txt $(VENV)/checkout.stamp
	@test $(VENV)/dev.stamp -nt requirements-dev.txt || { \
		echo "Installing what Upbeat and its tests need into $(VENV): about 120 locked packages, once"; \
		$(INSTALL) -r requirements-dev.txt; }
	@touch $@
