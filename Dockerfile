# The workbook as an image: JupyterLab with the lessons, or any other command of `workbook`.
#
#   docker build -t workbook .                          PyTorch's CPU build
#   docker build -t workbook:cuda --target cuda .       with CUDA, for `docker run --gpus all`
#   docker run --rm -it -p 127.0.0.1:8888:8888 -v workbook:/home/learner/workbook workbook
#
# tools/ways_in.py writes the version of Python; the packages come from requirements.lock.
ARG PYTHON=3.11

FROM python:${PYTHON}-slim AS base
# Debian's own versions: they change with the image, and no lesson depends on them.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git make \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 1000 learner \
    && install --directory --owner learner --group learner /home/learner/workbook
USER 1000
WORKDIR /home/learner/workbook
ENV PIP_NO_CACHE_DIR=1

FROM base AS sources
COPY --chown=1000 . .
# Progress lies beside the results, so that one volume keeps both.
ENV WORKBOOK_PROGRESS=/home/learner/workbook/runs/progress PATH=/home/learner/workbook/.venv/bin:${PATH}
EXPOSE 8888
CMD ["workbook", "lab", "--no-browser", "--ip=0.0.0.0"]

FROM sources AS cuda
ENV WORKBOOK_TORCH=cuda NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
RUN python tools/setup_venv.py

FROM sources AS cpu
ENV WORKBOOK_TORCH=cpu
RUN python tools/setup_venv.py
