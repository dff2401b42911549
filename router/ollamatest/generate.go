package ollamatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// generateRequest is the body of /api/generate.
type generateRequest struct {
	Model      string          `json:"model"`
	Prompt     string          `json:"prompt"`
	Suffix     string          `json:"suffix"`
	System     string          `json:"system"`
	Template   string          `json:"template"`
	Context    []int64         `json:"context"`
	Stream     *bool           `json:"stream"`
	Raw        bool            `json:"raw"`
	Format     json.RawMessage `json:"format"`
	KeepAlive  *keepAlive      `json:"keep_alive"`
	Images     [][]byte        `json:"images"`
	Options    map[string]any  `json:"options"`
	Think      *thinkValue     `json:"think"`
	Logprobs   bool            `json:"logprobs"`
	RenderOnly bool            `json:"_debug_render_only"`
}

// generate serves /api/generate.
func (c *call) generate() {
	var req generateRequest
	if !c.decodeOr(&req, "GenerateRequest") {
		return
	}
	f := &generateFormat{newNative(req.Model, req.Logprobs && c.s.has.logprobs)}
	c.runGenerate(req, f, req.Stream == nil || *req.Stream)
}

// runGenerate does the work of /api/generate and /v1/completions.
func (c *call) runGenerate(req generateRequest, f format, stream bool) {
	e, err := c.s.catalog.find(req.Model)
	switch {
	case errors.Is(err, errModelName) && c.s.has.modern && req.Model != "":
		c.fail(http.StatusBadRequest, err.Error())
		return
	case err != nil:
		c.fail(http.StatusNotFound, fmt.Sprintf("model '%s' not found", req.Model))
		return
	case req.Prompt == "" && req.KeepAlive.zero():
		c.s.sched.unload(e)
		c.idle(f, "unload")
		return
	case req.Raw && (req.Template != "" || req.System != "" || len(req.Context) > 0):
		c.fail(http.StatusBadRequest, "raw mode does not support template, system, or context")
		return
	}
	x, ok := c.begin(e, exchange{
		name: req.Model, verb: "generate", think: req.Think, suffix: req.Suffix != "",
		options: req.Options, format: req.Format, keep: req.KeepAlive,
	})
	if !ok {
		return
	}
	defer c.s.sched.release(x.runner)
	if req.Prompt == "" {
		c.idle(f, "load")
		return
	}
	prompt, images := req.Prompt, len(req.Images)
	if !req.Raw {
		if prompt, err = c.renderGenerate(e, req, x); err != nil {
			c.fail(http.StatusInternalServerError, err.Error())
			return
		}
	}
	if req.RenderOnly && c.s.has.debug {
		c.rendered(req.Model, prompt, images)
		return
	}
	c.finish(x, job{
		wish:    wish{entry: e, prompt: prompt, opts: x.opts, format: x.format, parse: x.parse && !req.Raw},
		images:  images,
		context: !req.Raw,
		loaded:  x.loaded,
	}, f, stream)
}

// renderGenerate applies the template to a prompt.
func (c *call) renderGenerate(e *entry, req generateRequest, x *exchange) (string, error) {
	t := e.template
	if req.Template != "" {
		var err error
		if t, err = parseTemplate(req.Template); err != nil {
			return "", err
		}
	}
	v := turn{prompt: req.Prompt, suffix: req.Suffix, think: x.thinks, isSet: x.thinkSet}
	if system := req.System; system != "" || e.System != "" {
		if system == "" {
			system = e.System
		}
		v.messages = append(v.messages, Message{Role: "system", Content: system})
	}
	for i := range req.Images {
		v.messages = append(v.messages, Message{Role: "user", Content: fmt.Sprintf("[img-%d]", i)})
	}
	v.messages = append(v.messages, Message{Role: "user", Content: req.Prompt})
	text, err := t.render(v)
	return decodeTokens(req.Context) + text, err
}

// rendered answers _debug_render_only.
func (c *call) rendered(model, prompt string, images int) {
	info := map[string]any{"rendered_template": prompt}
	if images > 0 {
		info["image_count"] = images
	}
	c.json(map[string]any{"model": model, "created_at": time.Now().UTC(), "_debug_info": info})
}

// idle answers a request that only loads or unloads.
func (c *call) idle(f format, reason string) {
	contentType, body := f.whole(&final{created: time.Now(), reason: reason})
	c.w.Header().Set("Content-Type", contentType)
	c.w.Write(body)
}
