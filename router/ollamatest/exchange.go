package ollamatest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// exchange is the part of an inference request that all dialects share, and
// what becomes of it on the way to a loaded model.
type exchange struct {
	name    string // the model as the client spells it
	verb    string // "generate" or "chat", for error texts
	think   *thinkValue
	lenient bool // drop a wish to think that the model cannot fulfil, as /v1/messages does
	suffix  bool
	tools   bool
	options map[string]any
	format  json.RawMessage
	keep    *keepAlive

	opts     options
	thinks   bool // the model shall think
	thinkSet bool // and that, or the contrary, was asked for
	parse    bool // thinking is told from content
	runner   *runner
	loaded   time.Time
}

// begin checks the request against the model and gets a runner for it. It
// answers itself and returns false if that fails; otherwise the caller must
// release the runner.
func (c *call) begin(e *entry, x exchange) (*exchange, bool) {
	s := c.s
	if !e.can("completion") {
		c.fail(http.StatusBadRequest, fmt.Sprintf("%q does not support %s", x.name, x.verb))
		return nil, false
	}
	if x.think != nil && x.think.on && x.lenient && !e.can("thinking") {
		x.think = nil
	}
	if x.think != nil && x.think.level != "" && !s.has.modern {
		c.fail(http.StatusBadRequest, fmt.Sprintf("think value %q is not supported for this model", x.think.level))
		return nil, false
	}
	for _, need := range []struct {
		wanted     bool
		capability string
	}{{x.suffix, "insert"}, {x.tools, "tools"}, {x.think != nil && x.think.on, "thinking"}} {
		if need.wanted && !e.can(need.capability) {
			name := parseName(x.name).full()
			if s.has.modern && need.capability == "thinking" {
				name = fmt.Sprintf("%q", x.name)
			}
			c.fail(http.StatusBadRequest, name+" does not support "+need.capability)
			return nil, false
		}
	}
	x.thinks, x.thinkSet = x.think != nil && x.think.on, x.think != nil
	if x.think == nil && s.has.modern && e.can("thinking") { // newer versions think by default
		x.thinks, x.thinkSet = true, true
	}
	x.parse = x.thinks
	var err error
	if x.opts, err = s.options(e, x.options); err == nil {
		x.runner, err = s.sched.acquire(c.ctx, e, x.opts, x.keep.duration())
	}
	if err != nil {
		c.abandoned(err)
		return nil, false
	}
	x.loaded = time.Now()
	return &x, true
}

// finish lets the model answer.
func (c *call) finish(x *exchange, j job, f format, stream bool) {
	a := newAnswer(c, f, stream)
	var err error
	if j.format, err = checkFormat(j.format); err == nil {
		err = c.complete(x.runner, j, a)
	}
	c.s.stats.outcome(err, c.left(err))
	if err != nil {
		a.close(err)
	}
}

// left reports whether it was the client that ended the request.
func (c *call) left(err error) bool {
	return !c.killed() && (c.ctx.Err() != nil || errors.Is(err, errGone) || errors.Is(err, context.Canceled))
}

// abandoned answers a request that did not get a model.
func (c *call) abandoned(err error) {
	c.s.stats.outcome(err, c.left(err))
	c.failWith(err)
}
