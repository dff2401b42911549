package ollamatest

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// embedRequest is the body of /api/embed, /api/embeddings and /v1/embeddings.
type embedRequest struct {
	Model          string         `json:"model"`
	Input          any            `json:"input"`
	Prompt         string         `json:"prompt"`
	Truncate       *bool          `json:"truncate"`
	Dimensions     int            `json:"dimensions"`
	KeepAlive      *keepAlive     `json:"keep_alive"`
	Options        map[string]any `json:"options"`
	EncodingFormat string         `json:"encoding_format"`
}

// inputs returns the texts to embed.
func (r embedRequest) inputs() ([]string, error) {
	switch v := r.Input.(type) {
	case nil:
		return nil, nil
	case string:
		if v == "" {
			return nil, nil
		}
		return []string{v}, nil
	case []string:
		return v, nil
	}
	if list, ok := stringList(r.Input); ok {
		return list, nil
	}
	return nil, errors.New("invalid input type")
}

// embed serves /api/embed.
func (c *call) embed() {
	var req embedRequest
	if !c.decodeOr(&req, "EmbedRequest") {
		return
	}
	texts, err := req.inputs()
	if err != nil {
		c.fail(http.StatusBadRequest, err.Error())
		return
	}
	c.runEmbed(req, texts, &embedFormat{model: req.Model})
}

// embeddings serves /api/embeddings, the older form.
func (c *call) embeddings() {
	var req embedRequest
	if !c.decodeOr(&req, "EmbeddingRequest") {
		return
	}
	if !parseName(req.Model).valid() {
		c.fail(http.StatusBadRequest, "model is required")
		return
	}
	var texts []string
	if req.Prompt != "" {
		texts = []string{req.Prompt}
	}
	c.runEmbed(req, texts, &embedFormat{single: true})
}

// openAIEmbeddings serves /v1/embeddings.
func (c *call) openAIEmbeddings() {
	var req embedRequest
	err := c.decode(&req, "EmbedRequest")
	var texts []string
	if err == nil {
		if req.Input == "" {
			req.Input = []string{""}
		}
		if texts, err = req.inputs(); err == nil && len(texts) == 0 {
			err = errors.New("invalid input")
		}
	}
	if err != nil {
		c.reject(err)
		return
	}
	c.runEmbed(req, texts, &embedFormat{
		model: req.Model, openAI: true, base64: c.s.has.modern && strings.EqualFold(req.EncodingFormat, "base64"),
	})
}

// runEmbed does the work of all three.
func (c *call) runEmbed(req embedRequest, texts []string, f *embedFormat) {
	e, err := c.s.catalog.find(req.Model)
	if err != nil {
		c.fail(http.StatusNotFound, fmt.Sprintf("model %q not found, try pulling it first", req.Model))
		return
	}
	o, err := c.s.options(e, req.Options)
	if err != nil {
		c.failWith(err)
		return
	}
	r, err := c.s.sched.acquire(c.ctx, e, o, req.KeepAlive.duration())
	if err != nil {
		c.abandoned(err)
		return
	}
	defer c.s.sched.release(r)
	if len(texts) > 0 && c.s.has.modern && !e.can("embedding") {
		status := http.StatusNotImplemented
		if f.single {
			status = http.StatusInternalServerError
		}
		c.fail(status, "This server does not support embeddings. Start it with `--embeddings`")
		return
	}
	end := final{load: max(time.Since(c.started), 1)}
	for i, text := range texts {
		n := countTokens(text)
		if limit := o.numCtx; n > limit {
			if req.Truncate != nil && !*req.Truncate {
				c.fail(http.StatusBadRequest, "input length exceeds maximum context length")
				return
			}
			text = decodeTokens(encodeTokens(nil, text)[:limit])
			texts[i], n = text, limit
		}
		end.promptN += n
	}
	f.dimensions = e.Dimensions
	if req.Dimensions > 0 && req.Dimensions < e.Dimensions && c.s.has.modern {
		f.dimensions = req.Dimensions
	}
	for _, text := range texts {
		if err = c.embedOne(r, text, o); err != nil {
			break
		}
		f.vectors = append(f.vectors, embedding(e.Weights, text, f.dimensions))
	}
	end.total = max(time.Since(c.started), 1)
	a := newAnswer(c, f, false)
	if err == nil {
		err = a.end(&end)
	}
	c.s.stats.outcome(err, c.left(err))
	if err != nil {
		a.close(err)
	}
}

// embedOne takes the time of one text in a slot.
func (c *call) embedOne(r *runner, text string, o options) error {
	slot, err := r.slot(c.ctx, "", c.s.stats)
	if err != nil {
		return err
	}
	defer r.giveBack(slot)
	c.s.stats.begin(c.id, r.entry.Name)
	defer c.s.stats.end(r.entry.Name)
	return c.prefill(r, slot, job{wish: wish{prompt: text, opts: o}}, &final{})
}

// embedding is a unit vector that depends on the weights and the text only.
func embedding(weights, text string, dimensions int) []float32 {
	h := fnv.New64a()
	h.Write([]byte(weights))
	h.Write([]byte(text))
	random := rand.New(rand.NewPCG(h.Sum64(), 0xe))
	v := make([]float32, dimensions)
	var sum float64
	for i := range v {
		x := random.NormFloat64()
		v[i] = float32(x)
		sum += x * x
	}
	for i := range v {
		v[i] /= float32(math.Sqrt(sum))
	}
	return v
}

// embedFormat writes embeddings in the three dialects.
type embedFormat struct {
	model      string
	single     bool // /api/embeddings
	openAI     bool
	base64     bool
	dimensions int
	vectors    [][]float32
}

func (f *embedFormat) whole(end *final) (string, []byte) {
	var b []byte
	switch {
	case f.single:
		b = append(b, `{"embedding":`...)
		if len(f.vectors) == 0 {
			return "application/json; charset=utf-8", append(b, "[]}"...)
		}
		return "application/json; charset=utf-8", append(appendVector(b, f.vectors[0]), '}')
	case f.openAI:
		b = append(b, `{"object":"list","data":[`...)
		for i, v := range f.vectors {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(b, `{"object":"embedding","embedding":`...)
			if f.base64 {
				raw, _ := binary.Append(nil, binary.LittleEndian, v)
				b = append(b, quote(base64.StdEncoding.EncodeToString(raw))...)
			} else {
				b = appendVector(b, v)
			}
			b = fmt.Appendf(b, `,"index":%d}`, i)
		}
		return "application/json", fmt.Appendf(b, `],"model":%s,"usage":{"prompt_tokens":%d,"total_tokens":%d}}`+"\n",
			quote(f.model), end.promptN, end.promptN)
	}
	b = append(b, `{"model":`+quote(f.model)+`,"embeddings":[`...)
	for i, v := range f.vectors {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendVector(b, v)
	}
	b = append(b, ']')
	if len(f.vectors) > 0 {
		b = metrics(b, &final{total: end.total, load: end.load, promptN: end.promptN})
	}
	return "application/json; charset=utf-8", append(b, '}')
}

func appendVector(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, x := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(x), 'g', -1, 32)
	}
	return append(b, ']')
}

// Embeddings are not streamed.
func (*embedFormat) streamType() string                      { return "" }
func (*embedFormat) token(b []byte, _ kind, _ []byte) []byte { return b }
func (*embedFormat) tools(b []byte, _ []toolCall) []byte     { return b }
func (*embedFormat) end(b []byte, _ *final) []byte           { return b }
func (*embedFormat) broken(b []byte, _ string) []byte        { return b }
