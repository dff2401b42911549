package ollamatest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

// call is one request on its way through the server.
type call struct {
	s       *Server
	w       http.ResponseWriter
	r       *http.Request
	ctx     context.Context // ends when the client leaves or the server dies
	life    *life
	body    []byte
	arg     string // last element of the path, for routes that have one
	fault   *Fault // strikes the answer, if any
	id      string // for Stats.Executions
	refuse  refusal
	started time.Time
}

// route is what a path serves.
type route struct {
	methods string // as the Allow header lists them
	handle  func(*call)
	refuse  refusal // its errors; nil = Ollama's
	raw     bool    // the body is not JSON and not read in advance
}

// inferenceRoutes are the routes that make a model work.
var inferenceRoutes = map[string]bool{
	"/api/generate": true, "/api/chat": true, "/api/embed": true, "/api/embeddings": true,
	"/v1/chat/completions": true, "/v1/completions": true, "/v1/embeddings": true,
	"/v1/messages": true, "/v1/responses": true,
}

// routes returns the table of the imitated version.
func (s *Server) routes() map[string]route {
	table := map[string]route{
		"/":                    {methods: "HEAD, GET", handle: (*call).root},
		"/api/version":         {methods: "HEAD, GET", handle: (*call).version},
		"/api/tags":            {methods: "HEAD, GET", handle: (*call).tags},
		"/api/ps":              {methods: "GET", handle: (*call).ps},
		"/api/show":            {methods: "POST", handle: (*call).showModel},
		"/api/generate":        {methods: "POST", handle: (*call).generate},
		"/api/chat":            {methods: "POST", handle: (*call).chat},
		"/api/embed":           {methods: "POST", handle: (*call).embed},
		"/api/embeddings":      {methods: "POST", handle: (*call).embeddings},
		"/api/pull":            {methods: "POST", handle: (*call).pull},
		"/api/push":            {methods: "POST", handle: (*call).push},
		"/api/create":          {methods: "POST", handle: (*call).create},
		"/api/copy":            {methods: "POST", handle: (*call).copyModel},
		"/api/delete":          {methods: "DELETE", handle: (*call).deleteModel},
		"/api/blobs/:":         {methods: "HEAD, POST", handle: (*call).blob, raw: true},
		"/v1/models":           {methods: "GET", handle: (*call).models, refuse: s.openAIRefusal},
		"/v1/models/:":         {methods: "GET", handle: (*call).model, refuse: s.openAIRefusal},
		"/v1/chat/completions": {methods: "POST", handle: (*call).openAIChat, refuse: s.openAIRefusal},
		"/v1/completions":      {methods: "POST", handle: (*call).openAICompletion, refuse: s.openAIRefusal},
		"/v1/embeddings":       {methods: "POST", handle: (*call).openAIEmbeddings, refuse: s.openAIRefusal},
	}
	if s.has.status {
		table["/api/status"] = route{methods: "GET", handle: (*call).cloudStatus}
	}
	if s.has.responses {
		table["/v1/responses"] = route{methods: "POST", handle: (*call).responses, refuse: s.openAIRefusal}
	}
	if s.has.messages {
		table["/v1/messages"] = route{methods: "POST", handle: (*call).messages, refuse: anthropicRefusal}
	}
	return table
}

// Handler returns the server as an HTTP handler, for use without
// [Server.Serve]. Faults that reset the connection need HTTP/1.
func (s *Server) Handler() http.Handler {
	table := s.routes()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		life := s.life.Load()
		if !life.enter() {
			panic(http.ErrAbortHandler)
		}
		defer life.leave()
		s.frost.wait(life)

		path, arg := r.URL.Path, ""
		rt, ok := table[path]
		if i := strings.LastIndexByte(path, '/'); !ok && i > 0 && i < len(path)-1 {
			if rt, ok = table[path[:i]+"/:"]; ok {
				arg = path[i+1:]
			}
		}
		s.stats.request(r.Method, path)
		if !s.admit(w, r) {
			return
		}
		switch {
		case !ok && len(path) > 1 && table[strings.TrimSuffix(path, "/")].handle != nil:
			redirect(w, r, strings.TrimSuffix(path, "/"))
			return
		case !ok:
			plain(w, http.StatusNotFound, "404 page not found")
			return
		case !strings.Contains(", "+rt.methods+",", ", "+r.Method+","):
			w.Header().Set("Allow", rt.methods)
			plain(w, http.StatusMethodNotAllowed, "405 method not allowed")
			return
		}

		// The context: r's, plus the life of the server.
		ctx, cancel := context.WithCancelCause(r.Context())
		defer cancel(nil)
		stop := context.AfterFunc(life.ctx, func() { cancel(context.Cause(life.ctx)) })
		defer stop()

		c := &call{s: s, w: w, r: r, ctx: ctx, life: life, arg: arg, refuse: ollamaRefusal, started: time.Now()}
		if rt.refuse != nil {
			c.refuse = rt.refuse
		}
		if c.id = r.Header.Get(HeaderRequestID); c.id == "" {
			c.id = r.Header.Get(HeaderTestID)
		}
		// The whole body first: only then does net/http notice that an
		// HTTP/1.1 client has left.
		if !rt.raw {
			var err error
			if c.body, err = io.ReadAll(r.Body); err != nil {
				return
			}
		}
		if !c.struck(path) {
			rt.handle(c)
		}
	})
}

// struck applies the fault for this request, if there is one, and reports
// whether that was the whole answer.
func (c *call) struck(path string) bool {
	fs := c.s.faults
	if !fs.any() {
		return false
	}
	var named struct{ Model, Name, Source string }
	_ = json.Unmarshal(c.body, &named) // a body that names no model matches faults for all
	model := named.Model + named.Name + named.Source
	f := fs.pick(atRequest, path, model)
	if f == nil {
		c.fault = fs.pick(atAnswer, path, model)
		return false
	}
	switch f.Kind {
	case Status:
		status := f.Status
		if status == 0 {
			status = http.StatusInternalServerError
		}
		if strings.HasPrefix(f.Text, "{") {
			c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
			c.w.WriteHeader(status)
			io.WriteString(c.w, f.Text)
		} else {
			c.fail(status, f.text("injected fault"))
		}
	case Busy:
		c.fail(errBusy.status, errBusy.text)
	case Reset:
		c.abort()
	case Hang:
		c.sleep(f.Delay)
		if c.ctx.Err() == nil {
			return false
		}
	}
	return true
}

// sleep pauses for d, without limit if d is 0, or until the request ends.
func (c *call) sleep(d time.Duration) {
	var over <-chan time.Time
	if d > 0 {
		t := time.NewTimer(d)
		defer t.Stop()
		over = t.C
	}
	select {
	case <-over:
	case <-c.ctx.Done():
	}
}

// abort resets the connection.
func (c *call) abort() {
	conn, _, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	reset(conn)
}

// killed reports whether the server died under this request. If so, the
// answer must not end as if it were whole.
func (c *call) killed() bool { return c.life.ctx.Err() != nil }

// decode reads the JSON body into v, as Ollama's handlers do: what follows the
// first value is ignored, type errors name the struct of Ollama's API.
func (c *call) decode(v any, structName string) error {
	err := json.NewDecoder(bytes.NewReader(c.body)).Decode(v)
	if ute, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && ute.Field != "" {
		ute.Struct = structName
		return ute
	}
	return err
}

// decodeOr is decode with Ollama's 400 for what it cannot read.
func (c *call) decodeOr(v any, structName string) bool {
	switch err := c.decode(v, structName); {
	case err == nil:
		return true
	case errors.Is(err, io.EOF):
		c.fail(http.StatusBadRequest, "missing request body")
	default:
		c.fail(http.StatusBadRequest, err.Error())
	}
	return false
}

// json answers 200 with v.
func (c *call) json(v any) {
	b, _ := json.Marshal(v)
	c.w.Header().Set("Content-Type", "application/json; charset=utf-8")
	c.w.Write(b)
}

// fail answers with an error in the dialect of the route.
func (c *call) fail(status int, text string) {
	contentType, body := c.refuse(status, text)
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(status)
	c.w.Write(body)
}

// failWith is fail for an error. A client that has gone gets nothing; a
// connection whose server died is cut.
func (c *call) failWith(err error) {
	switch {
	case c.killed():
		panic(http.ErrAbortHandler)
	case c.ctx.Err() != nil:
		c.fail(499, "request canceled")
	default:
		c.fail(asStatus(err))
	}
}

func plain(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(status)
	io.WriteString(w, text)
}

// redirect sends a client from "/api/tags/" to "/api/tags".
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	status := http.StatusTemporaryRedirect
	if r.Method == http.MethodGet {
		status = http.StatusMovedPermanently
	}
	http.Redirect(w, r, to, status)
}
