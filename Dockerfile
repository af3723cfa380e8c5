FROM python:3.13-slim AS build
WORKDIR /source
COPY requirements/ requirements/
# the environment that goes into the final image has no pip and no build tools
RUN python -m venv /build \
 && /build/bin/pip install --no-cache-dir --no-deps --require-hashes -r requirements/build.txt \
 && python -m venv --without-pip /opt/convpool \
 && /build/bin/pip --python /opt/convpool/bin/python install --no-cache-dir --no-deps --require-hashes -r requirements/service.txt
COPY pyproject.toml hatch_build.py README.md ./
COPY convpool/ convpool/
COPY cnn_core/ cnn_core/
COPY service/ service/
COPY docs/ docs/
RUN /build/bin/pip wheel --no-deps --no-build-isolation --wheel-dir wheels . \
 && /build/bin/pip --python /opt/convpool/bin/python install --no-cache-dir --no-index --no-deps wheels/*.whl

FROM python:3.13-slim
COPY --from=build /opt/convpool /opt/convpool
COPY service/healthcheck.py /opt/convpool/healthcheck.py
ENV PATH=/opt/convpool/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    CONVPOOL_HOST=0.0.0.0 \
    CONVPOOL_PORT=8000
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --start-interval=500ms --retries=3 \
  CMD ["python", "/opt/convpool/healthcheck.py"]
ENTRYPOINT ["convpool"]
CMD ["serve"]
