# One image for every process: `jobplatform api`, `jobplatform worker`, `jobplatform migrate`.
# The database is another container's or a service's: the embedded PostgreSQL is left out. The extras are what settings
# of these processes ask for: keys that seal secrets, every type of connection, exports to S3, the page /docs, --server
# gevent. For traces, which need an exporter of your choice beside the extra `otel`, start your own image from this one.
FROM python:3.13-slim AS build
WORKDIR /src
COPY pyproject.toml README.md constraints.txt jobplatform_pytest.py ./
COPY platform platform
COPY migrations migrations
RUN python -m venv /app && /app/bin/pip install --no-cache-dir --constraint constraints.txt '.[encryption,rss,s3,docs,gevent]'

FROM python:3.13-slim
# A new volume that is mounted at /exports is this user's, as the folder is.
RUN useradd --system --create-home --uid 10001 jobplatform && install -d -o jobplatform -m 0750 /exports
COPY --from=build /app /app
ENV PATH=/app/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JOBPLATFORM_HOST=0.0.0.0 \
    JOBPLATFORM_LOG_FORMAT=json
USER jobplatform
WORKDIR /home/jobplatform
EXPOSE 8080
# The exec form: signals reach the process itself, and a worker drains instead of being killed.
ENTRYPOINT ["jobplatform"]
CMD ["--help"]
