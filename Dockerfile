# The coordinator, and as the target `client` a site's agent: built with the toolchain, run without it.

FROM rust:1.95.0-slim-bookworm AS build
# The image's own toolchain, without the formatter and linter that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package tributary-coordinator --package tributary-client

FROM debian:bookworm-slim AS base
# A new volume takes the owner and mode of the folder that it is mounted over.
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/tributary tributary \
    && install --directory --owner=tributary --group=tributary --mode=0700 /var/lib/tributary \
    /var/lib/tributary-site /var/lib/tributary-tokens
USER tributary

FROM base AS client
COPY --from=build /src/target/release/tributary-client /usr/local/bin/
WORKDIR /var/lib/tributary-site
VOLUME /var/lib/tributary-site
ENTRYPOINT ["tributary-client"]

FROM base AS coordinator
COPY --from=build /src/target/release/tributary-coordinator /usr/local/bin/
WORKDIR /var/lib/tributary
ENV TRIBUTARY__DATA_DIR=/var/lib/tributary
VOLUME /var/lib/tributary
EXPOSE 7443
ENTRYPOINT ["tributary-coordinator"]
CMD ["serve"]
