package tracing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
)

// Config makes a Tracing.
type Config struct {
	// Endpoint is the collector's URL for OTLP over HTTP; without a path it is
	// /v1/traces. How to talk to it (headers, certificates, sampling) is read
	// from OpenTelemetry's own environment variables.
	Endpoint string
	Node     string // name of this node, service.instance.id
	Version  string
	Logger   *slog.Logger
}

// Tracing is a [router.Tracer] that sends what it sees to a collector.
type Tracing struct {
	provider *sdk.TracerProvider
	tracer   trace.Tracer
	wire     propagation.TextMapPropagator
}

// New checks c and begins to send in the background. A collector that is not
// there is no error: spans wait a little and are dropped.
func New(ctx context.Context, c Config) (*Tracing, error) {
	u, err := url.Parse(c.Endpoint)
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, fmt.Errorf("tracing: %q is no http or https URL", c.Endpoint)
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = "/v1/traces"
	}
	exporter, err := otlptracehttp.New(ctx, otlptracehttp.WithEndpointURL(u.String()))
	if err != nil {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	about, err := resource.New(ctx, resource.WithAttributes(
		attribute.String("service.name", "kage-mesh"), attribute.String("service.version", c.Version),
		attribute.String("service.instance.id", c.Node),
	), resource.WithFromEnv(), resource.WithTelemetrySDK())
	if err != nil && !errors.Is(err, resource.ErrPartialResource) {
		return nil, fmt.Errorf("tracing: %w", err)
	}
	if c.Logger != nil {
		say := complaints{log: c.Logger.With("component", "tracing")}
		otel.SetErrorHandler(&say)
	}
	p := sdk.NewTracerProvider(sdk.WithBatcher(exporter), sdk.WithResource(about))
	return &Tracing{provider: p, tracer: p.Tracer("kage-mesh"), wire: propagation.TraceContext{}}, nil
}

// Close sends what is left, until ctx ends.
func (t *Tracing) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// Request is part of [router.Tracer].
func (t *Tracing) Request(h http.Header, r router.Record) router.Span {
	return t.open(t.caller(h), name(r), trace.SpanKindServer, trace.WithTimestamp(r.Start), trace.WithAttributes(about(r)...))
}

// Forwarded is part of [router.Tracer].
func (t *Tracing) Forwarded(h http.Header, r router.Record) router.Span {
	return t.open(t.caller(h), name(r), trace.SpanKindServer, trace.WithAttributes(append(about(r), attribute.Bool("kage.forwarded", true))...))
}

// caller is the context that a header names.
func (t *Tracing) caller(h http.Header) context.Context {
	return t.wire.Extract(context.Background(), propagation.HeaderCarrier(h))
}

func (t *Tracing) open(ctx context.Context, name string, kind trace.SpanKind, options ...trace.SpanStartOption) router.Span {
	ctx, s := t.tracer.Start(ctx, name, append(options, trace.WithSpanKind(kind))...)
	return &span{tracing: t, ctx: ctx, span: s}
}

// span is one that is open.
type span struct {
	tracing *Tracing
	ctx     context.Context //nolint:containedctx // it is what OpenTelemetry keeps a span in
	span    trace.Span
}

func (s *span) Try(node string) router.Span {
	return s.tracing.open(s.ctx, "try "+node, trace.SpanKindClient, trace.WithAttributes(attribute.String("server.address", node)))
}

func (s *span) Inject(h http.Header) {
	s.tracing.wire.Inject(s.ctx, propagation.HeaderCarrier(h))
}

func (s *span) Tried(a router.Attempt) {
	result := cmp.Or(a.Result, "broken")
	s.span.SetAttributes(attribute.String("kage.phase", a.Phase), attribute.String("kage.result", result))
	if result != router.ResultOK {
		s.fail(result)
	}
	s.span.End()
}

func (s *span) Ended(r router.Record) {
	defer s.span.End()
	if !s.span.IsRecording() {
		return
	}
	s.span.SetAttributes(
		attribute.Int("http.response.status_code", r.Status), attribute.String("kage.outcome", string(r.Outcome)),
		attribute.Int("kage.attempts", len(r.Attempts)), attribute.Int("kage.continued", r.Continued),
	)
	if r.Owner != "" {
		s.span.SetAttributes(attribute.String("server.address", r.Owner))
	}
	if r.Inference && r.OutputTokens > 0 {
		s.span.SetAttributes(attribute.Int("gen_ai.usage.input_tokens", r.PromptTokens), attribute.Int("gen_ai.usage.output_tokens", r.OutputTokens))
	}
	if r.First > 0 {
		first := r.Start.Add(time.Duration(r.First * float64(time.Second)))
		s.span.AddEvent("first byte", trace.WithTimestamp(first))
		s.span.SetAttributes(attribute.Float64("gen_ai.response.time_to_first_chunk", r.First))
	}
	// A caller's own mistake, or leave, is no failure of the server.
	switch r.Outcome {
	case router.OutcomeCut, router.OutcomeBusy, router.OutcomeError:
		s.fail(string(r.Outcome))
	}
}

func (s *span) fail(what string) {
	s.span.SetAttributes(attribute.String("error.type", what))
	s.span.SetStatus(codes.Error, what)
}

// name is what the conventions call a span: operation and model.
func name(r router.Record) string {
	if r.Model == "" {
		return operation(r.Route)
	}
	return operation(r.Route) + " " + r.Model
}

func about(r router.Record) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("gen_ai.operation.name", operation(r.Route)), attribute.String("gen_ai.provider.name", "ollama"),
		attribute.String("gen_ai.request.model", r.Model), attribute.Bool("gen_ai.request.stream", r.Stream),
		attribute.String("kage.request.id", r.ID), attribute.String("kage.route", r.Route),
	}
}

// operation is gen_ai.operation.name of a route; where the conventions have no
// word the route's own is used.
func operation(route string) string {
	switch route {
	case "chat", "v1-chat", "v1-messages", "v1-responses":
		return "chat"
	case "generate", "v1-completions":
		return "text_completion"
	case "embed", "embeddings", "v1-embeddings":
		return "embeddings"
	}
	return route
}

// complaints of the exporter go to the log, one a minute: without a collector
// there is one every few seconds.
type complaints struct {
	log *slog.Logger

	mu   sync.Mutex
	last time.Time
}

// Handle is part of [otel.ErrorHandler].
func (c *complaints) Handle(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := time.Now(); now.Sub(c.last) >= time.Minute {
		c.last = now
		c.log.Warn("traces are not delivered", "err", err)
	}
}
