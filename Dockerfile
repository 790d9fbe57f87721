# The coordinator, in two stages: build with the toolchain, run without it.

FROM rust:1.95.0-slim-bookworm AS build
# The image's own toolchain, without the formatter and linter that rust-toolchain.toml asks for.
ENV RUSTUP_TOOLCHAIN=1.95.0
WORKDIR /src
COPY . .
RUN cargo build --release --locked --package tributary-coordinator

FROM debian:bookworm-slim
RUN useradd --system --uid 10001 --no-create-home --home-dir /var/lib/tributary tributary \
    && install --directory --owner=tributary --group=tributary --mode=0700 /var/lib/tributary
COPY --from=build /src/target/release/tributary-coordinator /usr/local/bin/
USER tributary
WORKDIR /var/lib/tributary
# A new volume takes the folder's owner and mode.
ENV TRIBUTARY__DATA_DIR=/var/lib/tributary
VOLUME /var/lib/tributary
EXPOSE 7443
ENTRYPOINT ["tributary-coordinator"]
CMD ["serve"]
