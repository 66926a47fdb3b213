# syntax=docker/dockerfile:1
# The service in an image. Pin BASE to a digest of yours (python@sha256:...) where builds must repeat.
#   docker build -t assets .                                  PyTorch as PyPI has it, with CUDA
#   docker build -t assets --build-arg TORCH_INDEX=URL .      from another index, such as PyTorch's own for CPUs
ARG BASE=python:3.11-slim-bookworm

FROM ${BASE} AS build
ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/assets
WORKDIR /srv/assets
COPY pyproject.toml constraints.txt README.md ./
COPY serve_app ./serve_app
RUN /opt/assets/bin/pip install -c constraints.txt ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch \
    && /opt/assets/bin/pip install -c constraints.txt -e '.[upscale,matting,redis,objects]'

FROM ${BASE}
RUN groupadd --gid 1000 assets \
    && useradd --uid 1000 --gid assets --create-home assets \
    && install -d -o assets -g assets /data /data/state /data/output /data/models
COPY --from=build /opt/assets /opt/assets
WORKDIR /srv/assets
COPY --from=build /srv/assets ./
COPY configs ./configs
COPY serve_config.yaml ./
ENV PATH=/opt/assets/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    ASSETS_STATE_DIR=/data/state \
    ASSETS_OUTPUT_DIR=/data/output
USER 1000:1000
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=120s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/readyz', timeout=4)"]
CMD ["assets", "run", "configs/docker/serve.yaml"]
