# The serving image; `--target training` builds the image that runs the pipeline. docs/image.md gives the reasons.
#
# The bases are arguments, so the same file builds where no registry can be reached (`make image-offline`).
# By default they are the first two stages. Those name their images literally, because Dependabot does not read arguments.
# All must have the same Python: what BUILDER installs runs on BASE and RUNTIME.
ARG BUILDER=debian
ARG BASE=distroless
ARG RUNTIME=debian

FROM python:3.13-slim-trixie AS debian
# hadolint ignore=DL3007
FROM gcr.io/distroless/python3-debian13:latest AS distroless


FROM ${BUILDER} AS tools
# hadolint ignore=DL3008
RUN command -v strip > /dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*; }
RUN python3 -m venv /tools
ENV PATH=/tools/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY constraints.txt ./
# Pinned: setuptools writes its version into what it builds.
RUN pip install -q -c constraints.txt setuptools


# Each folder of /layers becomes one layer of the image. The layers that change least come first.
FROM tools AS build
COPY pyproject.toml ./
COPY deploy/image/requirements.py deploy/image/trim.py deploy/image/
ARG EXTRAS="serve postgres"
RUN python3 deploy/image/requirements.py ${EXTRAS} > /requirements.txt \
    && pip install -q --no-compile --only-binary=:all: -c constraints.txt -r /requirements.txt --target /layers/lib/app/lib \
    && python3 deploy/image/trim.py /layers/lib/app/lib
COPY README.md LICENSE ./
COPY journal journal
COPY model model
COPY pipelines pipelines
COPY service service
RUN pip install -q --no-compile --no-deps --no-build-isolation --target /layers/code/app/code . \
    && rm -r /layers/code/app/code/pipelines
COPY out/champion /layers/bundle/app/bundle
# All files get the same time, whatever the commit: a layer whose content is the same keeps its digest.
RUN mkdir -p /layers/data/data \
    && chmod -R u=rwX,go=rX /layers \
    && find /layers -exec touch -h -d @315532800 {} +


# Runs on the base itself: the build fails unless the bundle gives its golden answers with the libraries that are left.
# Python's compiled files are kept, because the container's file system is read-only.
FROM ${BASE} AS proven
COPY --from=build /layers/lib/ /
COPY --from=build /layers/code/ /
COPY --from=build /layers/bundle/ /
COPY deploy/image/prove.py /
ENV PYTHONPATH=/app/code:/app/lib PYTHONPYCACHEPREFIX=/layers/compiled/app/compiled PYTHONHASHSEED=0
RUN ["/usr/bin/python3", "/prove.py", "/app/bundle", "/layers"]


# The pipeline, as Kubernetes Jobs run it (deploy/training), and MLflow's server. TORCH_BACKEND chooses torch's build: cpu,
# cu130, … If it is empty, pip takes the build that its own index has.
FROM tools AS training-tools
COPY pyproject.toml ./
COPY deploy/image/requirements.py deploy/image/
ARG TORCH_BACKEND=cpu
RUN if [ -n "${TORCH_BACKEND}" ]; then \
      pip install -q -c constraints.txt uv \
      && uv pip install -q --python /tools -c constraints.txt --torch-backend=${TORCH_BACKEND} torch; \
    fi
# torch's headers and the packages' tests are a third of the size, and nothing here uses them.
RUN python3 deploy/image/requirements.py train postgres > /requirements.txt \
    && pip install -q -c constraints.txt -r /requirements.txt \
    && rm -rf /tools/lib/python3*/site-packages/torch/include /tools/lib/python3*/site-packages/torch/test \
    && find /tools/lib/python3*/site-packages/torch/bin -type f ! -name torch_shm_manager -delete \
    && find /tools/lib -type d -name tests -prune -exec rm -rf {} +
COPY . .
RUN pip install -q --no-deps --no-build-isolation -e . \
    && dvc init -q --no-scm \
    && python -c "import pipelines.train, pipelines.export, pipelines.evaluate, mlflow.server"


FROM ${RUNTIME} AS training
COPY --from=training-tools /tools /tools
COPY --from=training-tools --chown=65532:65532 /src /src
RUN useradd --uid 65532 --create-home neocog && install -d -o neocog /artifacts
WORKDIR /src
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ENV PATH=/tools/bin:$PATH NEOCOG_REVISION=${REVISION} MPLBACKEND=agg DVC_NO_ANALYTICS=1 \
    DVC_SITE_CACHE_DIR=/tmp/dvc GIT_PYTHON_REFRESH=quiet
USER 65532:65532
LABEL org.opencontainers.image.title="neocog-training" \
      org.opencontainers.image.description="Trains and judges neocog's models, and serves MLflow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
CMD ["dvc", "repro"]


FROM ${BASE} AS serving
COPY --from=build /layers/lib/ /
COPY --from=proven /layers/compiled/ /
COPY --from=build /layers/code/ /
COPY --from=proven /layers/compiled-code/ /
COPY --from=build /layers/bundle/ /
COPY --from=build --chown=65532:65532 /layers/data/ /
ENV PYTHONPATH=/app/code:/app/lib \
    PYTHONPYCACHEPREFIX=/app/compiled \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    NEOCOG_BUNDLE=/app/bundle \
    NEOCOG_HOST=0.0.0.0 \
    NEOCOG_PROBE_PORT=8001 \
    NEOCOG_JOURNAL=sqlite:////data/journal.db
USER 65532:65532
VOLUME /data
EXPOSE 8000 8001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 \
    CMD ["/usr/bin/python3", "-S", "-m", "service.health"]
ENTRYPOINT ["/usr/bin/python3", "-m", "service"]
# Last, so a new revision changes no layer. deploy/image/build.py fills them in.
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
ARG BASE
ARG BUNDLE=unknown
ARG BUNDLE_MODEL=unknown
ARG BUNDLE_DATA=unknown
ARG BUNDLE_PARAMS=unknown
ARG BUNDLE_REVISION=unknown
ARG BUNDLE_RUN=unknown
ENV NEOCOG_REVISION=${REVISION}
LABEL org.opencontainers.image.title="neocog" \
      org.opencontainers.image.description="Reads handwritten digits, over HTTP" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}" \
      org.opencontainers.image.base.name="${BASE}" \
      neocog.bundle.version="${BUNDLE}" \
      neocog.bundle.model.sha256="${BUNDLE_MODEL}" \
      neocog.bundle.data.sha256="${BUNDLE_DATA}" \
      neocog.bundle.params.sha256="${BUNDLE_PARAMS}" \
      neocog.bundle.revision="${BUNDLE_REVISION}" \
      neocog.bundle.run="${BUNDLE_RUN}"
