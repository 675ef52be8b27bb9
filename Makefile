# make run: install into .venv and fuzz an emulated CPU with a million candidates
# make test: install into .venv and pass the tests
# make test-wheel: build sdist and wheel, try the wheel in an empty environment
# make test-system: build the kernel module, boot Debian's kernel with it in Bochs and QEMU (packages: tests/system/README.md)
# make test-system-full: also vmfuzz itself inside those machines, and all campaigns through the module (times: tests/system/README.md)
# make page: build the page that checks a VMCS in the browser, in build/page (needs Node.js with npm)
# make lint: style and types

PYTHON ?= python3
VENV ?= .venv
ITERATIONS ?= 1000000
STAMP = $(VENV)/.installed
TOOK = $(VENV)/.test-took
SOURCES = pyproject.toml setup.py $(wildcard kmod/engine.* kmod/*.h) $(wildcard image/*.[chS] image/image.ld image/Makefile) src/vmfuzz/execute/bochs/platform.c src/vmfuzz/model/columns.c src/vmfuzz/execute/wire/declared.py kmod/agent.c kmod/requests.c $(wildcard src/vmfuzz/execute/kvm/*.[ch])

PAGE = build/page
PAGE_PACKAGES = page/node_modules/.package-lock.json
PAGE_SOURCES = $(wildcard page/*.*) $(shell find src/vmfuzz/arch src/vmfuzz/explain src/vmfuzz/model src/vmfuzz/state -name '*.py' -o -name '*.json') \
  $(wildcard src/vmfuzz/*.py)

.PHONY: run say-run test test-wheel test-system test-system-full page lint clean

run: say-run $(STAMP)
	$(VENV)/bin/vmfuzz run --iterations $(ITERATIONS)

say-run:
	@echo "make run: $(ITERATIONS) candidates on an emulated CPU$$([ -e $(STAMP) ] || echo ', after vmfuzz is installed into $(VENV) (a minute)')"

test: $(STAMP)
	@cat $(TOOK) 2>/dev/null || echo "make test: 10 min were measured on two cores that did other work too; the next time this line says how long it took"
	@start=$$(date +%s); echo $(VENV)/bin/pytest -n 2; $(VENV)/bin/pytest -n 2; status=$$?; \
	  echo "make test: about $$((($$(date +%s) - start + 59) / 60)) min, as the last time here" >$(TOOK); exit $$status

test-wheel: $(STAMP)
	$(VENV)/bin/pip --disable-pip-version-check install --quiet build
	VMFUZZ_TEST_WHEEL=1 $(VENV)/bin/pytest -n 0 tests/test_wheel.py

test-system: $(STAMP)
	VMFUZZ_SYSTEM=1 $(VENV)/bin/pytest -n 2 --dist loadfile tests/system -rsP --junitxml build/machine-tests.xml </dev/null

test-system-full: $(STAMP)
	VMFUZZ_SYSTEM=1 VMFUZZ_SYSTEM_FULL=1 $(VENV)/bin/pytest -n 2 --dist loadfile tests/system -rsP </dev/null
	$(VENV)/bin/python tests/system/every_campaign.py

page: $(PAGE)/vmfuzz.zip

$(PAGE)/vmfuzz.zip: $(PAGE_PACKAGES) $(PAGE_SOURCES)
	node page/build.mjs $(PAGE)

$(PAGE_PACKAGES): page/package.json page/package-lock.json
	@node -e 'process.exit(Number(parseInt(process.versions.node) < 18))' 2>/dev/null && command -v npm >/dev/null || { \
	  echo "make page needs Node.js 18 or newer with npm: on Debian and Ubuntu install the packages nodejs and npm"; exit 3; }
	@npm ci --prefix page --ignore-scripts --no-audit --no-fund --loglevel error || { \
	  echo "make page: npm could not fetch Pyodide, which page/package-lock.json names: is the npm registry reachable?"; exit 3; }
	touch $@

lint: $(STAMP)
	$(VENV)/bin/ruff check src tests benchmarks tools setup.py
	$(VENV)/bin/ruff format --check src tests benchmarks tools setup.py
	$(VENV)/bin/mypy

$(STAMP): $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "vmfuzz needs Python 3.11 or newer as $(PYTHON): on Debian 12 install the package python3"; exit 3; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	  echo "vmfuzz needs Python's venv module: on Debian and Ubuntu install the package python3-venv"; exit 3; }
	@command -v $${CC:-gcc} >/dev/null 2>&1 || command -v cc >/dev/null 2>&1 || { \
	  echo "vmfuzz needs a C compiler: on Debian and Ubuntu install the package gcc (with libc6-dev)"; exit 3; }
	@[ "$$(uname -sm)" = "Linux x86_64" ] || { echo "vmfuzz needs Linux on x86-64; this is $$(uname -sm)"; exit 3; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip --disable-pip-version-check install --quiet --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build page/node_modules src/vmfuzz/execute/_native src/*.egg-info
