# Everything that a fresh Debian machine with Rust needs is installed on the way, and named.

.PHONY: run demo test soak bench lint fuzz image install deb

TARGET = $(or $(CARGO_TARGET_DIR),target)
BUILD = cc=gcc /usr/include/stdlib.h=libc6-dev protoc=protobuf-compiler

run: # enforce the shipped allowlist on this machine's engine, or audit where that would end something
	scripts/install-missing $(BUILD)
	scripts/start-engine
	cargo build --release --locked
	scripts/run

demo: # the same on a throwaway engine, as a transcript (root)
	scripts/install-missing $(BUILD) dockerd=docker.io docker=docker.io ip=iproute2 unshare=util-linux curl=curl python3=python3
	cargo build --release --locked
	scripts/demo

test: # every test, on engines of their own (root)
	scripts/install-missing $(BUILD) dockerd=docker.io docker=docker.io ip=iproute2 iptables=iptables unshare=util-linux curl=curl docker-registry=docker-registry faketime=faketime chromium=chromium chromedriver=chromium-driver kubectl=kubernetes-client prometheus=prometheus promtool=prometheus python3=python3 socat=socat
	scripts/test

MINUTES = 10
soak: # starts, ends and engine restarts for so long, the release build watched: make soak MINUTES=60 (root)
	scripts/install-missing $(BUILD) dockerd=docker.io docker=docker.io ip=iproute2 unshare=util-linux
	cargo bench --locked --bench soak -- $(MINUTES)
	cargo test --locked --test faults_engine --test faults_contained -- --ignored # faults that take a minute each

STARTS = 200
bench: # how long forbidden containers live, beside two scripts and a bare floor: docs/performance.md (root)
	scripts/install-missing $(BUILD) dockerd=docker.io docker=docker.io ip=iproute2 unshare=util-linux curl=curl wrk=wrk python3=python3 /usr/share/doc/python3-venv=python3-venv
	python3 -m venv $(TARGET)/tmp/python
	$(TARGET)/tmp/python/bin/pip install --quiet --disable-pip-version-check docker==7.1.0
	cargo bench --locked --bench decision
	cargo bench --locked --bench speed -- $(STARTS)

lint:
	scripts/install-missing $(BUILD)
	cargo fmt --all --check
	cargo clippy --all-targets --locked -- -D warnings

FUZZ_SECONDS = 600
fuzz: # every fuzz target, for so long each: make fuzz FUZZ_SECONDS=60
	scripts/fuzz $(FUZZ_SECONDS)

image: # the image that docker-compose.yml runs
	docker build --tag dockwarden:$$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml) .

DESTDIR =
PREFIX = /usr/local
PROFILE = release
PROGRAM = $(TARGET)/$(PROFILE:dev=debug)/dockwarden
BUILD_PROGRAM = cargo build --locked --profile $(PROFILE)
SHARE = $(DESTDIR)$(PREFIX)/share
UNITS = $(DESTDIR)$(PREFIX)/lib/systemd/system
install: # program, manual, completions, systemd unit, a list that only audits: make install PREFIX=/usr DESTDIR=/tmp/root
	scripts/install-missing $(BUILD)
	$(BUILD_PROGRAM)
	scripts/package-files $(PROGRAM) $(TARGET)/package
	install -D -t $(DESTDIR)$(PREFIX)/bin $(PROGRAM)
	install -D -m 644 -t $(SHARE)/man/man1 $(TARGET)/package/man/*
	install -D -m 644 $(TARGET)/package/dockwarden.bash $(SHARE)/bash-completion/completions/dockwarden
	install -D -m 644 $(TARGET)/package/dockwarden.zsh $(SHARE)/zsh/site-functions/_dockwarden
	install -D -m 644 $(TARGET)/package/dockwarden.fish $(SHARE)/fish/vendor_completions.d/dockwarden.fish
	install -D -m 644 -t $(UNITS) packaging/systemd/dockwarden.service
	sed -i 's,/usr/bin/,$(PREFIX)/bin/,' $(UNITS)/dockwarden.service
	test -e $(DESTDIR)/etc/dockwarden/allowlist.toml || install -D -m 644 -t $(DESTDIR)/etc/dockwarden packaging/allowlist.toml

CARGO_DEB = 3.8.0
deb: # a Debian package of the same, in target/debian
	scripts/install-missing $(BUILD) dpkg-shlibdeps=dpkg-dev
	cargo deb --version 2>/dev/null | grep -qF $(CARGO_DEB) || CARGO_PROFILE_DEV_DEBUG=0 cargo install --locked --debug cargo-deb --version $(CARGO_DEB)
	$(BUILD_PROGRAM)
	scripts/package-files $(PROGRAM) $(TARGET)/package
	cargo deb --locked --no-build --profile $(PROFILE) $(if $(filter dev,$(PROFILE)),--fast)
