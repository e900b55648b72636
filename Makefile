# vmruntime. "make help" lists the targets; "make run" and "make test" need
# nothing but a fresh Debian 12 and root.

PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
DESTDIR    ?=

VERSION := $(shell git describe --tags --match 'v*' --dirty 2>/dev/null | sed 's/^v//' | grep . || echo 0.1.0-dev)
COMMIT  := $(shell git describe --always --abbrev=40 --exclude '*' --dirty 2>/dev/null || echo unknown)

# Where hack/setup.sh puts Go if the machine has none or an old one.
export PATH := /usr/local/go/bin:$(PATH)

# libvirt_dlopen: building needs no libvirt headers, and binaries no link to it.
TAGS    := libvirt_dlopen
BUILD   := github.com/vmruntime/vmruntime/internal/version
LDFLAGS := -X $(BUILD).version=$(VERSION) -X $(BUILD).commit=$(COMMIT) \
           -X github.com/vmruntime/vmruntime/runtime.DefaultConfig=$(SYSCONFDIR)/vmruntime/config.toml
SOURCES  = $(shell find $(1) -name '*.go' ! -name '*_test.go' ! -path '*/testdata/*' 2>/dev/null) go.mod go.sum
KERNEL   = $(wildcard build/kernel/*.deb)

.PHONY: build
build: bin/vmruntime bin/vmruntime-shim bin/vmagent bin/vmagent-disk bin/vmruntime-qemu bin/vmruntime-preload.so bin/vmruntime-virtiofsd ## build the programs into bin/

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what the machine lacks (as root)
	@hack/setup.sh

.PHONY: guest
guest: build/guest/guest.json ## build the kernel and initramfs that VMs boot into build/guest/

.PHONY: run
run: ## set up, build, and run a container from a Debian root filesystem (as root)
	@hack/demo.sh

.PHONY: test
test: ## set up, build, and run all linters and tests, in real VMs (as root)
	@hack/test.sh lint unit nova integration engines

.PHONY: lint
lint: ## gofmt, golangci-lint and shellcheck
	@hack/lint.sh

.PHONY: unit
unit: ## the tests that need no VM
	@hack/test.sh unit

.PHONY: nova
nova: ## lint and test the Nova driver (after hack/nova.sh setup)
	@hack/nova.sh lint
	@hack/nova.sh test

.PHONY: integration
integration: ## the tests in real VMs (as root)
	@hack/test.sh integration

.PHONY: engines
engines: ## run what docker, podman and containerd can do, and write the tables of README.md (as root)
	@UPDATE=1 hack/test.sh engines

.PHONY: soak
soak: ## the integration tests, with hundreds of containers (as root, an hour or more)
	@VMRUNTIME_SOAK=1 hack/test.sh integration engines

# How long each fuzzer runs.
FUZZTIME ?= 10m

.PHONY: fuzz
fuzz: ## fuzz what reads foreign input, FUZZTIME each
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzPlan$$' -fuzztime $(FUZZTIME) ./runtime
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzArchive$$' -fuzztime $(FUZZTIME) ./image
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzLayer$$' -fuzztime $(FUZZTIME) ./image
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzCgroupsPath$$' -fuzztime $(FUZZTIME) ./cgroup
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzMountOptions$$' -fuzztime $(FUZZTIME) ./agent
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzGuestChannel$$' -fuzztime $(FUZZTIME) ./shim
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzSeed$$' -fuzztime $(FUZZTIME) ./agent
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzISOFind$$' -fuzztime $(FUZZTIME) ./agent
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzMetadata$$' -fuzztime $(FUZZTIME) ./agent/cloud
	go test -tags $(TAGS) -run '^$$' -fuzz '^FuzzExtractKernel$$' -fuzztime $(FUZZTIME) ./vm/guest

# Which rows to measure, all if empty, and how often.
BENCH  ?=
ROUNDS ?= 5

.PHONY: bench
bench: ## measure vmruntime beside bare QEMU, runc and crun, and under engines, into docs/bench/ (as root, half an hour without KVM)
	@hack/bench.sh -rows '$(BENCH)' -rounds $(ROUNDS)

.PHONY: bench-page
bench-page: build/bench/bench ## draw tables and pictures in docs/bench/ again, from its data
	build/bench/bench -page -out docs/bench

# Always asked for, because the commit is part of it; Go knows what to do.
.PHONY: build/bench/bench
build/bench/bench:
	go build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $@ ./bench

build/bench/init: $(call SOURCES,bench/init)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./bench/init

# The compressed kernel, as its package has it.
build/bench/vmlinuz: $(KERNEL)
	@mkdir -p $(@D)
	dpkg-deb --fsys-tarfile $(KERNEL) | tar -xO --wildcards './boot/vmlinuz-*' >$@.new
	mv $@.new $@

# Always asked for, because the commit is part of it; Go knows what to do.
.PHONY: bin/vmruntime
bin/vmruntime:
	go build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/vmruntime

.PHONY: bin/vmruntime-shim
bin/vmruntime-shim:
	go build -tags $(TAGS) -trimpath -ldflags '$(LDFLAGS)' -o $@ ./cmd/vmruntime-shim

# Static, and without version or commit: equal sources give an equal guest.
bin/vmagent: $(call SOURCES,agent protocol cmd/vmagent)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./cmd/vmagent

bin/vmagent-disk: $(call SOURCES,agent protocol cmd/vmagent-disk)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./cmd/vmagent-disk

# libvirt probes an emulator anew, for seconds, when its file has changed: it is
# written only when its sources are newer.
bin/vmruntime-qemu: $(call SOURCES,cmd/vmruntime-qemu internal/confine)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./cmd/vmruntime-qemu

# QEMU loads it, see there.
bin/vmruntime-preload.so: $(wildcard cmd/vmruntime-qemu/preload/*.c) cmd/vmruntime-qemu/preload
	@mkdir -p bin
	$(CC) -shared -fPIC -O2 -Wall -Wextra -Werror -Wl,-soname,libcapstone.so.4 -o $@ $(filter %.c,$^)

bin/vmruntime-virtiofsd: $(call SOURCES,cmd/vmruntime-virtiofsd internal/confine)
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags '-s -w' -o $@ ./cmd/vmruntime-virtiofsd

build/guest/guest.json: bin/vmagent bin/vmagent-disk bin/vmruntime-qemu $(KERNEL) $(call SOURCES,vm/guest) | bin/vmruntime bin/vmruntime-shim
	@[ -n "$(KERNEL)" ] || { echo 'no kernel package in build/kernel: run hack/setup.sh' >&2; exit 1; }
	bin/vmruntime guest build $(KERNEL:%=--kernel %) -o build/guest

.PHONY: install
install: build guest ## install into DESTDIR/PREFIX (default /usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/vmruntime/guest $(DESTDIR)$(SYSCONFDIR)/vmruntime
	install -m 0755 bin/vmruntime $(DESTDIR)$(PREFIX)/bin/vmruntime
	install -m 0755 bin/vmagent bin/vmagent-disk bin/vmruntime-qemu bin/vmruntime-preload.so bin/vmruntime-shim bin/vmruntime-virtiofsd $(DESTDIR)$(PREFIX)/lib/vmruntime/
	install -m 0644 build/guest/* $(DESTDIR)$(PREFIX)/lib/vmruntime/guest/
	[ -e $(DESTDIR)$(SYSCONFDIR)/vmruntime/config.toml ] || \
		sed -e 's,/etc/vmruntime,$(SYSCONFDIR)/vmruntime,' -e 's,"/usr/local/,"$(PREFIX)/,' docs/config.toml | \
		install -m 0644 /dev/stdin $(DESTDIR)$(SYSCONFDIR)/vmruntime/config.toml

.PHONY: uninstall
uninstall: ## remove what install put there, except for the configuration
	rm -f $(DESTDIR)$(PREFIX)/bin/vmruntime
	rm -rf $(DESTDIR)$(PREFIX)/lib/vmruntime

.PHONY: clean
clean: ## remove bin/ and build/, which hold the tools and the root filesystem too
	rm -rf --one-file-system bin build
