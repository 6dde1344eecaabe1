# Aegis as an image: `docker build -t aegis .` (on the processor), `--target gpu` (on an NVIDIA card).
# docs/stack.md lists the parts that were tested.

# The program.
FROM rust:1.95.0-bookworm AS program
# CMake builds librdkafka with libcurl, by which it fetches tokens of OIDC.
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /aegis
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY src src
COPY crates crates
COPY schemas schemas
# The specs of guards are compiled in.
COPY experts/guards experts/guards
COPY benches benches
# The tests are not built, but Cargo.toml names some of them, and cargo rejects a manifest whose files are missing.
COPY tests tests
RUN cargo build --release --locked --no-default-features --features oidc && cp target/release/aegis /aegis/aegis

# ONNX Runtime, the experts and the demo's texts, from packages pinned by hash.
FROM python:3.13.5-slim-bookworm AS experts
WORKDIR /aegis
COPY experts experts
RUN python3 experts/setup.py && chmod -R a+rX models

# ONNX Runtime for NVIDIA cards, used only by the gpu target.
FROM python:3.13.5-slim-bookworm AS cuda
RUN pip install --no-cache-dir --no-deps --target /wheel onnxruntime-gpu==1.31.1 \
    && mkdir /cuda && cp /wheel/onnxruntime/capi/libonnxruntime*.so* /cuda/ \
    && ln -sf "$(basename /cuda/libonnxruntime.so.*)" /cuda/libonnxruntime.so

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS gpu
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3t64 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin aegis \
    && install -d -o aegis -g aegis /var/lib/aegis
COPY --from=program /aegis/aegis /usr/local/bin/aegis
COPY --from=experts /aegis/models /opt/aegis/models
COPY --from=cuda /cuda /opt/aegis/cuda
COPY config /etc/aegis
COPY deploy/ready /usr/local/bin/ready
ENV AEGIS_CONFIG=/etc/aegis/aegis.toml \
    AEGIS_MODELS=/opt/aegis/models \
    AEGIS__EXPERTS__FOLDER=/opt/aegis/models \
    AEGIS__EXPERTS__RUNTIME=/opt/aegis/cuda/libonnxruntime.so \
    AEGIS__EXPERTS__PROVIDER=cuda \
    AEGIS__LEARN__STORE=/var/lib/aegis/store
USER aegis
WORKDIR /tmp
VOLUME /var/lib/aegis
EXPOSE 9464
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["ready", "livez"]
ENTRYPOINT ["aegis"]
CMD ["run"]

# The image that runs. `make stack-test` builds everything below this line even if no image can be pulled.
FROM debian:12.11-slim AS aegis
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates libssl3 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin aegis \
    && install -d -o aegis -g aegis /var/lib/aegis
COPY --from=program /aegis/aegis /usr/local/bin/aegis
COPY --from=experts /aegis/models /opt/aegis/models
COPY config /etc/aegis
COPY deploy/ready /usr/local/bin/ready
ENV AEGIS_CONFIG=/etc/aegis/aegis.toml \
    AEGIS_MODELS=/opt/aegis/models \
    AEGIS__EXPERTS__FOLDER=/opt/aegis/models \
    AEGIS__LEARN__STORE=/var/lib/aegis/store
USER aegis
# Only the learner's store and, briefly, /tmp are written, so the root file system can be read-only.
WORKDIR /tmp
VOLUME /var/lib/aegis
EXPOSE 9464
# Checks liveness, not readiness: an unavailable broker is no reason to restart. The compose file checks readiness.
HEALTHCHECK --interval=5s --timeout=3s --start-period=60s CMD ["ready", "livez"]
ENTRYPOINT ["aegis"]
CMD ["run"]
