# Thin wrappers over Meson and the two scripts; all the build's logic is in meson.build.
# SPDX-License-Identifier: Apache-2.0
TESTDATA ?=
PREFIX ?= /usr/local
DESTDIR ?=
# Meson takes a relative DESTDIR as below the build folder; people mean the folder they are in.
STAGED = $(if $(DESTDIR),$(if $(filter /%,$(DESTDIR)),$(DESTDIR),$(CURDIR)/$(DESTDIR)))

.PHONY: build run test test-real test-peers test-clients test-web test-hub test-registry test-tokenizers test-sanitizers test-cross fuzz bench install uninstall clean

build:
	@test -f build/build.ninja || meson setup build --buildtype=release -Dtests=false -Dprefix="$(PREFIX)"
	ninja -C build aperto

run:
	./start

test:
	./check $(TESTDATA)

# Slow suites, by name.
test-real:
	sh tests/slow/real.sh $(TESTDATA) $(MODELS)

test-peers:
	sh tests/slow/peers.sh

test-clients:
	sh tests/slow/clients.sh

test-web:
	sh tests/slow/web.sh

test-hub:
	sh tests/slow/hub.sh

test-registry:
	sh tests/slow/registry.sh

test-tokenizers:
	sh tests/slow/tokenizers.sh $(TOKENIZERS)

test-sanitizers:
	sh tests/slow/sanitizers.sh $(TESTDATA)

test-cross:
	sh tests/slow/cross.sh

fuzz:
	sh tests/slow/fuzz.sh

bench:
	sh tests/slow/bench.sh

install: build
	meson configure build -Dprefix="$(PREFIX)"
	DESTDIR="$(STAGED)" meson install -C build

uninstall:
	DESTDIR="$(STAGED)" sh scripts/uninstall.sh build

clean:
	rm -rf build build-*
