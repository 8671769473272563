# dockwarden in an image that holds one program and the libraries it is linked to.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# `--build-arg CARGO_PROFILE_RELEASE_LTO=off --build-arg CARGO_PROFILE_RELEASE_OPT_LEVEL=0` is a quicker build of a
# larger and slower program.
ARG CARGO_PROFILE_RELEASE_LTO=thin
ARG CARGO_PROFILE_RELEASE_OPT_LEVEL=3

# containerd speaks protobuf; its interface is compiled by this.
RUN command -v protoc >/dev/null \
 || { apt-get update -qq \
   && apt-get install -y -qq --no-install-recommends protobuf-compiler >/dev/null \
   && rm -rf /var/lib/apt/lists/*; }

# The dependencies first, behind an empty program: this layer stays until Cargo.toml or Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && echo 'fn main() {}' > src/main.rs && touch src/lib.rs \
 && cargo build --release --locked \
 && rm -r src

# Copied files may be older than the empty program; touched, they are compiled.
COPY allowlist.schema.json ./
COPY src src
RUN find src -name '*.rs' -exec touch {} + \
 && cargo build --release --locked

# The program, and each shared library that the loader names, at the path where the loader looks for it (the
# paths differ by architecture, so ldd says them). Not linked statically: a static glibc may still load parts of
# its resolver at run time, of the very same build, and without them a name in DOCKER_HOST fails or crashes.
# The certificates are for https receivers of notifications.
RUN set -eu; program=target/release/dockwarden; \
    install -D "$program" /image/dockwarden; \
    for library in $(ldd "$program" | grep -o '/[^ ]*'); do install -D -m 755 "$library" "/image$library"; done; \
    install -D -m 644 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt; \
    mkdir -p /image/etc; echo 'hosts: files dns' > /image/etc/nsswitch.conf

FROM scratch
LABEL org.opencontainers.image.title="dockwarden" \
      org.opencontainers.image.description="A Docker host runs what is on its allowlist, and nothing else." \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /image /

# Root, because the engine's socket belongs to root and to a group whose number differs from host to host.
# The owner of the socket needs no capability: run it with --cap-drop ALL and --read-only, as
# docker-compose.yml does. (Whoever may use that socket is root on the host, whatever user id he has.)
HEALTHCHECK --interval=15s --timeout=5s --start-period=10s CMD ["/dockwarden", "healthcheck"]
# One heap of glibc's for all threads: what comes and goes with containers by the thousand leaves fewer holes.
ENV MALLOC_ARENA_MAX=1
ENTRYPOINT ["/dockwarden"]
CMD ["run"]
