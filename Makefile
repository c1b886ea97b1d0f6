# Nightshift: one Makefile, no recursion over folders, no configure step.  `make help` lists the targets.
#
# FLAVOR=plain|asan|tsan|fuzz picks the build folder (build/ for plain programs, build/FLAVOR/ for the
# rest); CC=gcc or clang.  V=1 shows the commands.

CC ?= gcc
ifeq ($(origin CC),default)
CC := gcc
endif
FLAVOR ?= plain
VERSION := 0.1.0
PREFIX ?= /usr/local
# All cores are used unless told otherwise (-j1).
ifeq ($(MAKELEVEL),0)
MAKEFLAGS += -j$(shell nproc)
endif

ifeq ($(FLAVOR),plain)
OUT := build/plain
BIN := build
else
OUT := build/$(FLAVOR)
BIN := build/$(FLAVOR)
endif

ifdef V
Q :=
SAY := @:
else
Q := @
SAY := @printf '  %-6s %s\n'
endif

LIBRARIES := libcurl libpq hiredis jansson libevent libevent_openssl yaml-0.1 rdkafka openssl zlib cjose
# http-parser ships no pkg-config file in Debian.
LDLIBS = $(LIBRARIES_LINK) -lhttp_parser -lpthread -lm
# Nor does libcsv, which only the command line reads and writes CSV with.
LDLIBS_CSV := -lcsv
# The worker's malloc: glibc's took a quarter of its time at full load. Sanitizers bring their own.
LDLIBS_worker := $(if $(filter plain,$(FLAVOR)),-lmimalloc)
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition \
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wundef -Wvla -Wformat=2 -Wnull-dereference -Wno-overlength-strings -Werror
CPPFLAGS = -I. -D_GNU_SOURCE -DNIGHTSHIFT_VERSION='"$(VERSION)"' $(LIBRARIES_COMPILE)
CFLAGS_plain := -O2 -g
CFLAGS_asan := -O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all
CFLAGS_tsan := -O1 -g -fsanitize=thread
CFLAGS_fuzz := -O1 -g1 -fno-omit-frame-pointer -fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=all
CFLAGS := -std=gnu11 $(CFLAGS_$(FLAVOR)) $(WARNINGS) -fstack-protector-strong -fno-common
LDFLAGS := $(filter -fsanitize=%,$(CFLAGS_$(FLAVOR)))

SOURCES_common := $(wildcard common/base/*.c common/io/*.c common/model/*.c)
SOURCES_producer := $(filter-out producer/main.c,$(wildcard producer/*.c))
SOURCES_cli := $(filter-out producer/cli/main.c,$(wildcard producer/cli/*.c))
SOURCES_worker := $(filter-out worker/main.c,$(wildcard worker/*.c worker/providers/*.c))
SOURCES_scheduler := $(filter-out scheduler/main.c,$(wildcard scheduler/*.c))
SOURCES_migrations := $(filter-out migrations/main.c,$(wildcard migrations/*.c))
SOURCES_simulator := $(filter-out tests/simulator/main.c,$(wildcard tests/simulator/*.c))

objects = $(patsubst %.c,$(OUT)/%.o,$(1))
PARTS := common producer cli worker scheduler simulator migrations
$(foreach p,$(PARTS),$(eval OBJECTS_$(p) := $(call objects,$(SOURCES_$(p)))))
OBJECTS_migrations += $(OUT)/migrations/embedded.o
OBJECTS_producer += $(OUT)/producer/openapi_document.o
OBJECTS_common += $(OUT)/common/model/scripts.o
$(foreach p,$(PARTS),$(eval LIB_$(p) := $(OUT)/lib$(p).a))

PROGRAMS := $(foreach p,producer worker scheduler,$(if $(wildcard $(p)/main.c),$(BIN)/nightshift-$(p)))
PROGRAMS += $(if $(wildcard migrations/main.c),$(BIN)/nightshift-migrate)
PROGRAMS += $(BIN)/nightshift
TOOLS := $(if $(wildcard tests/simulator/main.c),$(BIN)/nightshift-simulator)
TOOLS += $(if $(wildcard deploy/local/broker.c),$(BIN)/nightshift-broker)
BENCH_PROGRAMS := $(OUT)/bench/load $(OUT)/bench/bare
UNIT_TESTS := $(patsubst tests/unit/%.c,$(OUT)/tests/%,$(wildcard tests/unit/test_*.c))
FUZZERS := $(patsubst tests/fuzz/%.c,$(OUT)/fuzz/%,$(wildcard tests/fuzz/fuzz_*.c))

.DEFAULT_GOAL := all
.PHONY: all programs tools help
all: programs tools

# What each target needs of Debian's packages is installed when it is missing (deploy/local/deps):
# targets take `| deps-run` and the like.  `kafka` also gets Apache Kafka, into build/kafka.
DEPS := build run demo test valgrind lint fuzz kafka
.PHONY: deps $(DEPS:%=deps-%)
deps:
	$(Q)deploy/local/deps $(DEPS)
$(DEPS:%=deps-%): deps-%:
	$(Q)deploy/local/deps $*
.PHONY: kafka
kafka: | deps-kafka
	$(Q)deploy/local/kafka/fetch

# The flags of the libraries, which may have to be installed first: make builds this file before all
# else and then starts over.
build/libraries.mk: deploy/local/deps Makefile
	$(Q)deploy/local/deps build
	@mkdir -p build
	$(Q)link=$$(pkg-config --libs $(LIBRARIES)) && compile=$$(pkg-config --cflags $(LIBRARIES)) && \
	  printf 'LIBRARIES_LINK := %s\nLIBRARIES_COMPILE := %s\n' "$$link" "$$compile" > $@
ifneq ($(filter-out clean down help format deps deps-%,$(or $(MAKECMDGOALS),all)),)
include build/libraries.mk
endif
programs: $(PROGRAMS)
tools: $(TOOLS)

$(OUT)/%.o: %.c Makefile
	@mkdir -p $(dir $@)
	$(SAY) CC $<
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -MMD -MP -c -o $@ $<

define part_library
$(LIB_$(1)): $(OBJECTS_$(1))
	@mkdir -p $$(dir $$@)
	$$(SAY) AR $$@
	$$(Q)rm -f $$@ && ar rcs $$@ $$^
endef
$(foreach p,$(PARTS),$(eval $(call part_library,$(p))))

define daemon_program
$(BIN)/nightshift-$(1): $(OUT)/$(1)/main.o $(LIB_$(1)) $(LIB_common)
	$$(SAY) LD $$@
	$$(Q)$(CC) $(LDFLAGS) -o $$@ $$^ $(LDLIBS_$(1)) $(LDLIBS)
endef
$(foreach p,producer worker scheduler,$(eval $(call daemon_program,$(p))))

# The migrations travel inside the program (.incbin in embedded.S lists them by wildcard).
$(OUT)/migrations/embedded.S: $(wildcard migrations/*.sql) Makefile
	@mkdir -p $(dir $@)
	$(Q){ printf '.section .rodata\n'; \
	  n=0; for f in $(sort $(wildcard migrations/*.sql)); do n=$$((n+1)); \
	    printf 'n%d: .asciz "%s"\nb%d: .incbin "%s"\ne%d: .byte 0\n' $$n $$(basename $$f) $$n $$f $$n; done; \
	  printf '.section .data.rel.ro,"aw"\n.balign 16\n.globl migrations_table\nmigrations_table:\n'; \
	  n=0; for f in $(sort $(wildcard migrations/*.sql)); do n=$$((n+1)); printf '.quad n%d, b%d, e%d\n' $$n $$n $$n; done; \
	  printf '.quad 0, 0, 0\n.section .note.GNU-stack,"",@progbits\n'; } > $@
$(OUT)/migrations/embedded.o: $(OUT)/migrations/embedded.S
	$(Q)$(CC) -c -o $@ $<
# So does the API's document.
$(OUT)/producer/openapi_document.S: producer/openapi.json Makefile
	@mkdir -p $(dir $@)
	$(Q)printf '.section .rodata\n.globl openapi_document, openapi_document_size\nopenapi_document: .incbin "%s"\n1: .balign 8\nopenapi_document_size: .quad 1b - openapi_document\n.section .note.GNU-stack,"",@progbits\n' $< > $@
$(OUT)/producer/openapi_document.o: $(OUT)/producer/openapi_document.S
	$(Q)$(CC) -c -o $@ $<
$(BIN)/nightshift: $(OUT)/producer/cli/main.o $(LIB_cli) $(LIB_common)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(LDLIBS_CSV)
# Written by the command itself, from its table of commands.
CLI_PAGES := $(OUT)/share/nightshift.1 $(OUT)/share/nightshift.bash $(OUT)/share/_nightshift
$(OUT)/share/nightshift.1: CLI_WORDS := man
$(OUT)/share/nightshift.bash: CLI_WORDS := completion bash
$(OUT)/share/_nightshift: CLI_WORDS := completion zsh
$(CLI_PAGES): $(BIN)/nightshift
	@mkdir -p $(dir $@)
	$(SAY) TEXT $@
	$(Q)XDG_CONFIG_HOME=/nonexistent $< $(CLI_WORDS) >$@.new && mv $@.new $@
# And the scripts that Redis runs: script_rates_lua, ..., with a NUL behind each.
$(OUT)/common/model/scripts.S: $(wildcard common/model/scripts/*.lua) Makefile
	@mkdir -p $(dir $@)
	$(Q){ printf '.section .rodata\n'; \
	  for f in $(sort $(wildcard common/model/scripts/*.lua)); do n=script_$$(basename $$f .lua)_lua; \
	    printf '.globl %s\n%s: .incbin "%s"\n.byte 0\n' $$n $$n $$f; done; \
	  printf '.section .note.GNU-stack,"",@progbits\n'; } > $@
$(OUT)/common/model/scripts.o: $(OUT)/common/model/scripts.S
	$(Q)$(CC) -c -o $@ $<
$(BIN)/nightshift-migrate: $(OUT)/migrations/main.o $(LIB_migrations) $(LIB_common)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/nightshift-simulator: $(OUT)/tests/simulator/main.o $(LIB_simulator) $(LIB_common)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)
$(BIN)/nightshift-broker: $(OUT)/deploy/local/broker.o
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(OUT)/bench/%: $(OUT)/tests/bench/%.o $(LIB_common)
	@mkdir -p $(dir $@)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

# Numbers, not a test: what a job costs beside a direct call of the provider.
.PHONY: bench-smoke
bench-smoke: all $(BENCH_PROGRAMS) kafka | deps-run deps-kafka
	$(Q)tests/bench/smoke

# How long questions about a year of 10^8 calls take.
.PHONY: bench-usage
bench-usage: all | deps-run
	$(Q)tests/bench/usage

# What admission costs in CPU; it starts a Redis of its own.
$(OUT)/bench/admission: $(OUT)/tests/unit/redis_fixture.o
.PHONY: bench-admission
bench-admission: $(OUT)/bench/admission | deps-run
	$(Q)$<

# Unit tests link the very objects that ship, and the servers that some of them start.
FIXTURES := $(call objects,$(wildcard tests/unit/*_fixture.c))
$(call objects,$(wildcard tests/unit/*.c)): | deps-test
$(OUT)/tests/test_kafka_live: | $(BIN)/nightshift-broker
$(OUT)/tests/%: $(OUT)/tests/unit/%.o $(FIXTURES) $(LIB_producer) $(LIB_cli) $(LIB_worker) $(LIB_scheduler) $(LIB_simulator) $(LIB_migrations) $(LIB_common)
	@mkdir -p $(dir $@)
	$(SAY) LD $@
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS) $(LDLIBS_CSV) -lcmocka
# This one prepares every SQL statement there is, so it links every object.
$(OUT)/tests/test_migrate: LDFLAGS += -Wl,--whole-archive
$(OUT)/tests/test_migrate: LDLIBS := -Wl,--no-whole-archive $(LDLIBS)
$(OUT)/fuzz/%: $(OUT)/tests/fuzz/%.o $(LIB_producer) $(LIB_cli) $(LIB_worker) $(LIB_simulator) $(LIB_common)
	@mkdir -p $(dir $@)
	$(SAY) LD $@
	$(Q)$(CC) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS) $(LDLIBS_CSV)

.PHONY: unit-tests fuzzers
unit-tests: $(UNIT_TESTS)
fuzzers: $(FUZZERS)
.SECONDARY:

# One unit test alone: make unit/test_map
unit/%: $(OUT)/tests/% | deps-run
	$(OUT)/tests/$*

# The scripts of admission against a plain model, a million random steps (MODEL_SEED=N: those of N).
.PHONY: model
model: $(OUT)/tests/test_admission_model | deps-run
	$(Q)MODEL_STEPS=1000000 $<

.PHONY: unit valgrind
unit: $(UNIT_TESTS) | deps-run
	$(Q)tests/run_unit $(FLAVOR) $(UNIT_TESTS)
valgrind: $(UNIT_TESTS) | deps-run deps-valgrind
	$(Q)tests/run_unit --under "valgrind -q --error-exitcode=9 --leak-check=full --vgdb=no --suppressions=tests/valgrind.supp" \
	  valgrind $(UNIT_TESTS)

# Everything, with the total of all cases as the last line; tests/README.md says how to run a part.
.PHONY: test integration slow chaos chaos-budget fuzz fuzz-run
test:
	$(Q)tests/run
integration: | venv
	$(Q)tests/run integration
slow: | venv
	$(Q)tests/run slow
chaos:
	$(Q)tests/run chaos
chaos-budget: programs tools kafka | venv deps-run
	$(Q)build/venv/bin/python tests/chaos/budget
FUZZ_SECONDS ?= 60
fuzz: | deps-fuzz
	$(Q)$(MAKE) --no-print-directory CC=clang FLAVOR=fuzz fuzz-run
fuzz-run: $(FUZZERS)
	$(Q)tests/run_fuzz $(FUZZ_SECONDS) $(FUZZERS)

# The Python of the tests, in a place of its own.
.PHONY: venv
venv: build/venv/.made
build/venv/.made: tests/requirements.txt tests/constraints.txt
	$(Q)deploy/local/deps test
	$(SAY) VENV build/venv
	$(Q)rm -rf build/venv && python3 -m venv build/venv
	$(Q)build/venv/bin/python -m pip install -q --disable-pip-version-check -r tests/requirements.txt
	@touch $@

# Lint: nothing is printed when all is well.
C_SOURCES := $(wildcard common/*/*.c producer/*.c producer/*/*.c worker/*.c worker/*/*.c scheduler/*.c \
  migrations/*.c tests/*/*.c deploy/local/*.c)
C_HEADERS := $(wildcard common/*/*.h producer/*.h producer/*/*.h worker/*.h worker/*/*.h scheduler/*.h \
  migrations/*.h tests/*/*.h)
SCRIPTS := $(wildcard tests/run tests/run_* tests/check_* tests/*/run tests/bench/smoke tests/chaos/budget tests/bench/usage .ci/run deploy/local/kafka/* \
  deploy/local/stack deploy/local/demo deploy/local/hello deploy/local/deps)
LINTS := lint-format lint-tidy lint-cppcheck lint-layers lint-python
.PHONY: lint $(LINTS) format
lint: | deps-build deps-test deps-lint
	$(Q)$(MAKE) --no-print-directory $(LINTS)
format: | deps-lint
	$(Q)clang-format -i $(C_SOURCES) $(C_HEADERS)
lint-format:
	$(Q)clang-format --dry-run -Werror $(C_SOURCES) $(C_HEADERS)
# A file is looked at again when it, or a header it includes, has changed.
lint-tidy: $(C_SOURCES:%.c=build/lint/%.tidy)
build/lint/%.tidy: %.c .clang-tidy tests/.clang-tidy Makefile
	@mkdir -p $(dir $@)
	$(SAY) TIDY $<
	$(Q)$(CC) $(CPPFLAGS) -std=gnu11 -MM -MP -MT $@ -MF $(@:.tidy=.d) $<
	$(Q)clang-tidy -quiet $< -- -std=gnu11 $(CPPFLAGS) $(filter-out -Werror,$(WARNINGS)) >$@.log 2>/dev/null || \
	  { cat $@.log; exit 1; }
	@mv $@.log $@
lint-cppcheck:
	$(Q)cppcheck -q -j2 --enable=warning,performance,portability --std=c11 -I. -D_GNU_SOURCE --inline-suppr \
	  --suppressions-list=tests/cppcheck.txt --library=tests/cppcheck.cfg --error-exitcode=1 $(C_SOURCES)
lint-layers:
	$(Q)tests/check_layers
lint-python:
	$(Q)python3 -m compileall -q tests deploy/local
	$(Q)for f in $(SCRIPTS); do case $$(head -1 $$f) in *python*) ;; \#!*) sh -n $$f || exit 1; continue ;; *) continue ;; esac; \
	  python3 -c 'import ast, sys; ast.parse(open(sys.argv[1]).read(), sys.argv[1])' $$f || exit 1; done

.PHONY: install
install: programs $(CLI_PAGES)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions
	install -m 755 $(PROGRAMS) $(DESTDIR)$(PREFIX)/bin
	install -m 644 $(OUT)/share/nightshift.1 $(DESTDIR)$(PREFIX)/share/man/man1
	install -m 644 $(OUT)/share/nightshift.bash $(DESTDIR)$(PREFIX)/share/bash-completion/completions/nightshift
	install -m 644 $(OUT)/share/_nightshift $(DESTDIR)$(PREFIX)/share/zsh/site-functions

.PHONY: clean
clean:
	$(Q)rm -rf build/plain build/asan build/tsan build/fuzz build/lint build/nightshift build/nightshift-* build/libraries.mk

define HELP
make               build the programs into build/
make demo          see it all at work, in a few minutes
make up            start everything on this machine and leave it running
make down          stop it
make test          lint, unit tests, fuzzing, integration tests, a short chaos run
make lint          format check, clang-tidy, cppcheck, include directions
make format        let clang-format have its way
make unit          unit tests (FLAVOR=asan for sanitizers); make unit/test_map for one
make model         a million random steps of the money scripts against a plain model
make integration   integration tests on real Kafka
make slow          the integration tests that take minutes
make fuzz          every fuzz target for FUZZ_SECONDS=60
make chaos         kill things at random under load, then check that nothing was lost
make chaos-budget  a ceiling under kills and flushes: never passed, not for a moment
make bench-smoke   what a job costs beside a bare client
make bench-usage   how long questions about a year of usage take
make bench-admission  what limits and budgets cost
make valgrind      unit tests under valgrind
make deps          install the Debian packages that are missing
make install       PREFIX=/usr/local DESTDIR=
make clean         remove what was built

FLAVOR=plain|asan|tsan|fuzz picks the build folder, CC=gcc|clang the compiler, V=1 shows the commands.
endef
export HELP
help:
	@printf '%s\n' "$$HELP"

# The first thing to look at; the stack that stays is in build/stack.
.PHONY: demo up down
demo: all | deps-demo
	$(Q)deploy/local/demo
up: all | deps-run
	$(Q)deploy/local/hello
down:
	$(Q)deploy/local/stack down --dir build/stack

-include $(shell find $(OUT) build/lint -name '*.d' 2>/dev/null)
