# Builds with BuildKit and with the older builder alike: no here-documents and
# no cache mounts.
#   docker build --build-arg COMMIT="$(git rev-parse HEAD)" -t ml-model:v2 .
# With ONNX Runtime as a further engine, for some 30 MB more:
#   docker build --target onnxd-ort --build-arg COMMIT="$(git rev-parse HEAD)" -t ml-model:v2-ort .

# The same Debian release as the final stage, so that the binary finds the C
# library that it was linked against.
FROM rust:1.95-bookworm AS build
WORKDIR /build

# The dependencies are a layer of their own, rebuilt only when the manifest or
# the lock file changes: here they are compiled for an empty crate. Targets
# other than the library and the binary are cut from the manifest, because cargo
# refuses one that names files which are not there.
COPY Cargo.toml Cargo.lock ./
RUN awk '/^\[/ { skip = /^\[\[(bench|example|test)\]\]/ } !skip' Cargo.toml > manifest \
 && mv manifest Cargo.toml \
 && mkdir src \
 && touch src/lib.rs \
 && echo 'fn main() {}' > src/main.rs \
 && cargo build --release --locked

# Cargo compares modification times, and the sources keep those of the checkout,
# which are older than the empty crate's: without the touch the empty crate
# would be shipped.
COPY build.rs ./
COPY src src
ARG COMMIT=unknown
RUN find src -name '*.rs' -exec touch {} + \
 && BUILD_COMMIT="$COMMIT" cargo build --release --locked

# Whatever the checkout's umask was, any user may read the models.
COPY models /models
RUN chmod -R a+rX /models


# The library of ONNX Runtime, out of its wheel on PyPI, of which there is one
# for each kind of machine. BuildKit passes this stage over unless onnxd-ort is
# built; the older builder goes through it every time.
FROM rust:1.95-bookworm AS onnxruntime
WORKDIR /onnxruntime
RUN apt-get update \
 && apt-get install --yes --no-install-recommends python3-pip unzip
RUN printf '%s ' onnxruntime==1.31.1 \
      --hash=sha256:5752bd508126ae7c49894d3b9d2e83f0c3d487319246d04c444b393308d7ad7f \
      --hash=sha256:da05378364c44d4407e463982d2bf8d5e4cfea873283757e48beeb41df97b7f3 > wheel \
 && pip download --no-deps --only-binary=:all: --require-hashes --requirement wheel \
 && unzip -j onnxruntime-*.whl onnxruntime/capi/libonnxruntime.so.1.31.1 \
      onnxruntime/LICENSE onnxruntime/ThirdPartyNotices.txt \
 && mv libonnxruntime.so.1.31.1 libonnxruntime.so \
 && chmod 644 libonnxruntime.so LICENSE ThirdPartyNotices.txt


# What both images have: the C and C++ libraries, a certificate store and no
# shell, no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot AS base

COPY --from=build /build/target/release/onnxd /usr/local/bin/onnxd
# The default of repository.path is the folder `models` in the working folder,
# so this is where the server looks. No ONNXD_REPOSITORY__PATH says so, because
# the environment outranks a configuration file that means another folder.
COPY --from=build /models /models
WORKDIR /

# A number, since Kubernetes cannot tell from a name that it is not root. Any
# other works too: the server writes nowhere.
USER 65532:65532

# HTTP and gRPC.
EXPOSE 8000 8001

# On this signal the server drains and exits with 0.
STOPSIGNAL SIGTERM

# The image has no curl. Kubernetes ignores this and asks through its probes.
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s --retries=3 \
    CMD ["/usr/local/bin/onnxd", "health"]

# Without a shell in between, so that signals reach the server.
ENTRYPOINT ["/usr/local/bin/onnxd"]
CMD ["serve"]

# Last, because a new commit changes hardly anything but this.
ARG COMMIT=unknown
LABEL org.opencontainers.image.title="onnxd" \
      org.opencontainers.image.description="Serves ONNX models over HTTP, with sample models" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="$COMMIT"

# Amazon SageMaker then tells the port to listen on, in SAGEMAKER_BIND_TO_PORT.
LABEL com.amazonaws.sagemaker.capabilities.accept-bind-to-port=true


# The server with ONNX Runtime, found in one of the folders that it looks in.
FROM base AS onnxd-ort
COPY --from=onnxruntime /onnxruntime/libonnxruntime.so /usr/local/lib/
COPY --from=onnxruntime /onnxruntime/LICENSE /onnxruntime/ThirdPartyNotices.txt /usr/share/doc/onnxruntime/


# The server alone: the last stage, which is built when none is named.
FROM base AS onnxd
