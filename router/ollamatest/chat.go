package ollamatest

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
)

// chatRequest is the body of /api/chat.
type chatRequest struct {
	Model      string          `json:"model"`
	Messages   []Message       `json:"messages"`
	Stream     *bool           `json:"stream"`
	Format     json.RawMessage `json:"format"`
	KeepAlive  *keepAlive      `json:"keep_alive"`
	Tools      []tool          `json:"tools"`
	Options    map[string]any  `json:"options"`
	Think      *thinkValue     `json:"think"`
	Logprobs   bool            `json:"logprobs"`
	RenderOnly bool            `json:"_debug_render_only"`

	lenient bool // see exchange
}

// chat serves /api/chat.
func (c *call) chat() {
	var req chatRequest
	if !c.decodeOr(&req, "ChatRequest") {
		return
	}
	f := &chatFormat{newNative(req.Model, req.Logprobs && c.s.has.logprobs)}
	c.runChat(req, f, req.Stream == nil || *req.Stream)
}

// runChat does the work of /api/chat and of every /v1 route that is a chat.
func (c *call) runChat(req chatRequest, f format, stream bool) {
	e, err := c.s.catalog.find(req.Model)
	switch {
	case errors.Is(err, errModelName) && c.s.has.modern && req.Model != "":
		c.fail(http.StatusBadRequest, err.Error())
		return
	case errors.Is(err, errModelName):
		c.fail(http.StatusBadRequest, "model is required")
		return
	case err != nil && c.s.has.modern:
		c.fail(http.StatusNotFound, fmt.Sprintf("model '%s' not found", req.Model))
		return
	case err != nil:
		c.fail(http.StatusNotFound, fmt.Sprintf("model %q not found, try pulling it first", req.Model))
		return
	case len(req.Messages) == 0 && req.KeepAlive.zero():
		c.s.sched.unload(e)
		c.idle(f, "unload")
		return
	}
	x, ok := c.begin(e, exchange{
		name: req.Model, verb: "chat", think: req.Think, lenient: req.lenient, tools: len(req.Tools) > 0,
		options: req.Options, format: req.Format, keep: req.KeepAlive,
	})
	if !ok {
		return
	}
	defer c.s.sched.release(x.runner)
	if len(req.Messages) == 0 {
		c.idle(f, "load")
		return
	}
	prompt, images, err := renderChat(e, turn{
		messages: req.Messages, tools: req.Tools, think: x.thinks, isSet: x.thinkSet,
	})
	if err != nil {
		c.fail(http.StatusInternalServerError, err.Error())
		return
	}
	if req.RenderOnly && c.s.has.debug {
		c.rendered(req.Model, prompt, images)
		return
	}
	w := wish{entry: e, prompt: prompt, opts: x.opts, format: x.format, parse: x.parse}
	if req.Messages[len(req.Messages)-1].Role == "user" { // a tool's result is answered in words
		w.tools = req.Tools
	}
	c.finish(x, job{wish: w, images: images, loaded: x.loaded}, f, stream)
}
