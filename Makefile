# Thin wrappers over Meson and the two scripts; all the build's logic is in meson.build.
# SPDX-License-Identifier: Apache-2.0
TESTDATA ?=
PREFIX ?= /usr/local
DESTDIR ?=

.PHONY: build run test test-real test-clients test-web test-cross fuzz bench install uninstall clean

build:
	@test -f build/build.ninja || meson setup build --buildtype=release -Dtests=false -Dprefix=$(PREFIX)
	ninja -C build

run:
	./start

test:
	./check $(TESTDATA)

# Slow suites, by name.
test-real:
	sh tests/slow/real.sh $(TESTDATA)

test-clients:
	sh tests/slow/clients.sh

test-web:
	sh tests/slow/web.sh

test-cross:
	sh tests/slow/cross.sh

fuzz:
	sh tests/slow/fuzz.sh

bench:
	sh tests/slow/bench.sh

install: build
	meson configure build -Dprefix=$(PREFIX)
	DESTDIR=$(DESTDIR) meson install -C build

uninstall:
	DESTDIR=$(DESTDIR) sh scripts/uninstall.sh build

clean:
	rm -rf build build-*
