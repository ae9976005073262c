"""OpenTelemetry: a span for each request, in the trace that its `traceparent` names.

Needs the extra `tracing`. Where spans go, and what the service is called in them, OpenTelemetry's own variables say:
OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_SERVICE_NAME, OTEL_TRACES_SAMPLER.
"""

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from starlette.types import ASGIApp


def traced(app: ASGIApp) -> ASGIApp:
    """`app`, with a span around every request but the probes'."""
    named = Resource({SERVICE_NAME: "neocog"}).merge(OTELResourceDetector().detect())
    provider = TracerProvider(resource=named)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    middleware: ASGIApp = OpenTelemetryMiddleware(
        app, excluded_urls="livez,readyz,metrics,v2/health", exclude_spans=["receive", "send"]
    )
    return middleware


def flush() -> None:
    """Sends the spans that wait. A worker that a signal ends does not do so by itself."""
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
