package router

import "net/http"

// Tracer opens the spans of requests, on both sides of the hop; package tracing
// has one. What it gets are records: names and numbers, no content.
type Tracer interface {
	// Request opens the span of a client's request, below the caller's own if
	// its header h names one.
	Request(h http.Header, r Record) Span
	// Forwarded opens the span of a request that another node sent.
	Forwarded(h http.Header, r Record) Span
}

// Span is one span of a request, used by the goroutine that serves it. It ends
// once, by Tried or Ended.
type Span interface {
	// Try opens the span of a try at a node, below it.
	Try(node string) Span
	// Inject names the span in the header of a request that is sent for it.
	Inject(h http.Header)
	Tried(Attempt)
	Ended(Record)
}

// trace has the request followed, where somebody does.
func (t *trip) trace(tracer Tracer, h http.Header) {
	if tracer != nil {
		t.span = tracer.Request(h, t.rec)
	}
}

// traced is the header to send with the running try: header itself, or a copy
// that names the try's span.
func (t *trip) traced(header http.Header) http.Header {
	if t.try == nil {
		return header
	}
	header = header.Clone()
	t.try.Inject(header)
	return header
}

// owned follows a request that another node sent, where somebody does. It
// returns what to call at the end, with how that came about.
func (r *Router) owned(j *job, h http.Header) (ended func(status int, became Outcome)) {
	if r.config.Tracer == nil {
		return func(int, Outcome) {}
	}
	rec := Record{ID: j.id, Route: j.kind.String(), Model: clip(j.work.Key), Inference: j.kind.Inference()}
	span := r.config.Tracer.Forwarded(h, rec)
	j.header = j.header.Clone()
	span.Inject(j.header)
	return func(status int, became Outcome) {
		rec.Status, rec.Outcome = status, became
		span.Ended(rec)
	}
}
