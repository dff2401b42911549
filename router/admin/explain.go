package admin

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// Explanation is the answer of /mesh/v1/explain.
type Explanation struct {
	SchemaVersion int `json:"schema_version"`
	router.Explanation
	// Request is what became of the request, when one was asked for by its id.
	Request *router.Record `json:"request,omitempty"`
}

// Requests is the answer of /mesh/v1/requests, newest first.
type Requests struct {
	SchemaVersion int             `json:"schema_version"`
	Timestamp     time.Time       `json:"timestamp"`
	Node          string          `json:"node"` // whose clients these are
	Running       []router.Record `json:"running"`
	Ended         []router.Record `json:"ended"`
}

// Question is what /mesh/v1/explain is asked: a model and what a request for it
// would want, or a request that this node served, by its id or as "last".
type Question struct {
	Model        string
	PromptTokens int
	OutputTokens int  // num_predict or max_tokens, 0 none
	Context      int  // num_ctx, 0 none
	Embedding    bool // no text is written
	ID           string
	Request      string
}

func (q Question) query() url.Values {
	v := url.Values{}
	for key, n := range map[string]int{
		"prompt_tokens": q.PromptTokens, "output_tokens": q.OutputTokens, "num_ctx": q.Context,
	} {
		if n > 0 {
			v.Set(key, strconv.Itoa(n))
		}
	}
	for key, text := range map[string]string{"model": q.Model, "id": q.ID, "request": q.Request} {
		if text != "" {
			v.Set(key, text)
		}
	}
	if q.Embedding {
		v.Set("embedding", "true")
	}
	return v
}

// maxTokens bounds the numbers of a question.
const maxTokens = 1 << 30

// readQuestion reads a query; problem != "" says what is wrong with it.
func readQuestion(v url.Values) (q Question, problem string) {
	q = Question{Model: v.Get("model"), ID: v.Get("id"), Request: v.Get("request"), Embedding: v.Get("embedding") == "true"}
	for key, into := range map[string]*int{
		"prompt_tokens": &q.PromptTokens, "output_tokens": &q.OutputTokens, "num_ctx": &q.Context,
	} {
		text := v.Get(key)
		if text == "" {
			continue
		}
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 || n > maxTokens {
			return q, key + " is no number of tokens: " + strconv.Quote(text)
		}
		*into = n
	}
	if q.Model == "" && q.Request == "" {
		return q, "name a model, or a request by its id"
	}
	return q, ""
}

// request is the request that a question supposes.
func (q Question) request(now time.Time) router.Request {
	return router.Request{
		ID: q.ID, Key: wire.Canonical(q.Model), PromptTokens: q.PromptTokens, OutputTokens: q.OutputTokens,
		Context: q.Context, Embedding: q.Embedding, Arrived: now,
	}
}

func (c Config) explain(w http.ResponseWriter, req *http.Request) {
	q, wrong := readQuestion(req.URL.Query())
	if wrong != "" {
		write(w, http.StatusBadRequest, problem{wrong})
		return
	}
	if q.Request == "" {
		write(w, http.StatusOK, Explanation{SchemaVersion: SchemaVersion, Explanation: c.Explain(q.request(time.Now()))})
		return
	}
	rec, e, ok := c.Recorded(q.Request)
	if !ok {
		write(w, http.StatusNotFound, problem{"no placed request " + strconv.Quote(q.Request) + " among the last ones of this node"})
		return
	}
	write(w, http.StatusOK, Explanation{SchemaVersion: SchemaVersion, Explanation: e, Request: &rec})
}

func (c Config) requests(w http.ResponseWriter, _ *http.Request) {
	running, ended, _ := c.Requests(0)
	write(w, http.StatusOK, requestsOf(c.View(), running, ended, time.Now()))
}

func requestsOf(v *mesh.View, running, ended []router.Record, now time.Time) Requests {
	out := Requests{SchemaVersion: SchemaVersion, Timestamp: now.UTC(), Running: running, Ended: ended}
	if self := v.Self(); self != nil {
		out.Node = self.Name
	}
	return out
}
