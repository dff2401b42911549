// Package wire knows the three dialects that clients and Ollama speak: Ollama's
// own, OpenAI's and Anthropic's. It reads only what the router needs and never
// rewrites what it reads.
//
// It owns the routes ([Lookup]), the peek into a request ([Parse], [ParseForm]),
// the frames of an answer ([Scanner], [Frame.Inspect], [Tail]), model names
// ([Canonical], [IsCloud], [Near]) and errors in the caller's dialect ([Error]).
//
// The invariant: the model that [Parse] reports is the model that Ollama would
// run, or the request is refused. And the frames of a [Scanner], put together,
// are the bytes that went in.
//
// Everything here is pure: no goroutine, no clock, no network. Values may be
// used from several goroutines as long as nobody writes; a [Scanner] and a
// [Tail] belong to one stream.
//
//	route, allowed, ok := wire.Lookup(r.Method, r.URL.Path)
//	body, werr := wire.Decode(r.Header.Get("Content-Encoding"), r.Body, 64<<20)
//	peek, werr := wire.Parse(route.Kind, body)
//	if werr != nil {
//		contentType, text := werr.Body(route.Kind.Dialect())
//		...
//	}
//
//	frames := wire.NewScanner(wire.NDJSON, 0)
//	tail := wire.NewTail(route.Kind)
//	frames.Write(chunk)
//	for f, ok := frames.Next(); ok; f, ok = frames.Next() {
//		c := f.Inspect(route.Kind)
//		tail.Add(c)
//		text = c.AppendText(text)
//		client.Write(f.Raw)
//	}
package wire
