# CPU:  docker build -t bangbench .
# CUDA: docker build -t bangbench --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126 .
# Run:  docker run --rm -v "$PWD:/work" bangbench audit mynet.py:build --weights best.pt --data npz:images.npz
# On a GPU add --gpus all.
ARG PYTHON=3.12
FROM python:${PYTHON}-slim

ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
RUN pip install --no-cache-dir --index-url "${TORCH_INDEX}" "torch>=2.6"

COPY pyproject.toml README.md LICENSE /source/
COPY bangbench /source/bangbench
RUN pip install --no-cache-dir "/source[caffe]"

# what numba compiles and what is fetched is kept where any user may write
ENV NUMBA_CACHE_DIR=/tmp/numba BANGBENCH_DATA=/work/data
WORKDIR /work
ENTRYPOINT ["bangbench"]
CMD ["--help"]
