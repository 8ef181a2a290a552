# One server, with its entries in memory or in Redis. In a clone: docker build --tag tagcache .
# docs/compose.md says how to run it.
FROM debian:trixie-slim AS build
# Debian replaces its versions: one that is named here is soon gone.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev python3-dev python3-venv \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# Without the native core, this fails.
RUN python3 -m venv /opt/tagcache \
    && TAGCACHE_NATIVE=require /opt/tagcache/bin/pip install --no-cache-dir '.[conch,tls,redis,uvloop]' \
    # Twisted writes a cache of its plugins, which it may not do at run time.
    && /opt/tagcache/bin/twistd --help >/dev/null \
    && /opt/tagcache/bin/pip uninstall --yes pip

FROM debian:trixie-slim
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home --home-dir /var/lib/tagcache --shell /usr/sbin/nologin tagcache \
    && install -d -m 0750 -o tagcache -g tagcache /var/lib/tagcache
COPY --from=build /opt/tagcache /opt/tagcache
COPY docs/examples/compose/one/tagcache.conf /etc/tagcache/tagcache.conf
ENV PATH=/opt/tagcache/bin:$PATH TAGCACHE_NATIVE=require
USER 10001
WORKDIR /var/lib/tagcache
# The snapshot, which is written at the end, and read at the start.
VOLUME /var/lib/tagcache
EXPOSE 1984 8080
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["tagcache", "health"]
# Process 1 is the server, not a shell, so that it receives SIGTERM and SIGHUP.
CMD ["tagcache", "server", "--config", "/etc/tagcache/tagcache.conf"]
