# One image for all services; Compose gives each its command. The target `sim` adds the simulated exchange.

FROM python:3.13-slim-trixie AS build
RUN python3 -m venv /opt/maserver
COPY requirements/run.txt /tmp/run.txt
RUN /opt/maserver/bin/pip install --quiet --no-cache-dir --disable-pip-version-check --no-compile --only-binary :all: \
        --require-hashes -r /tmp/run.txt \
 && /opt/maserver/bin/python -m pip uninstall --quiet --yes pip \
 && cd /opt/maserver/lib/python3.*/site-packages \
 && rm -rf pyarrow/include pyarrow/tests pyarrow/src numpy/tests numpy/*/tests \
        pyarrow/*flight* \
 && find . -name '*.pxd' -delete -o -name '*.pyx' -delete -o -name '*.pyi' -delete \
 && /opt/maserver/bin/python -c 'import aiohttp, hiredis, isal, picows, polars, psutil, pyarrow.dataset, pyarrow.parquet, uvloop'

FROM python:3.13-slim-trixie AS base
LABEL org.opencontainers.image.title="maserver" \
      org.opencontainers.image.description="Records Binance market data and accounts for every gap." \
      org.opencontainers.image.version="0.1.0"
ENV PATH=/opt/maserver/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    MASERVER_DATA_DIR=/data \
    MASERVER_STATE_DIR=/state \
    MASERVER_REPORTS_DIR=/reports
RUN mkdir /data /state /reports && chown 1000:1000 /data /state /reports
COPY --from=build /opt/maserver /opt/maserver
# the root of a container is read-only: what is not compiled here is compiled at every start
RUN python -m compileall -q -j 0 /opt/maserver/lib
WORKDIR /app
COPY config ./config
COPY common ./common
COPY ingest ./ingest
COPY gate ./gate
COPY archiver ./archiver
COPY backfill ./backfill
COPY analyzer ./analyzer
COPY dashboard ./dashboard
RUN python -m compileall -q .
USER 1000:1000

FROM base AS sim
COPY tests ./tests
EXPOSE 9080 9443 9444
CMD ["python", "-m", "tests.sims.exchange", "--host", "0.0.0.0"]

FROM base AS final
EXPOSE 9101 9102 9103
CMD ["python", "-m", "ingest"]
