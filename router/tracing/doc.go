// Package tracing sends the spans of requests to a collector by OTLP, for those
// who have one: one span for a client's request, below it one for each try at a
// node, below that one at the node that was asked, and what that node's Ollama
// makes of it if it traces at all. W3C's traceparent joins them over both hops
// and with the caller's own. Attributes have the names of OpenTelemetry's
// conventions for generative AI; what was asked and answered is in none.
//
//	t, err := tracing.New(ctx, tracing.Config{Endpoint: "http://localhost:4318", Node: "attic"})
//	defer t.Close(ctx)
//	router.New(router.Config{Tracer: t, ...})
package tracing
