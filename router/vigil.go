package router

import (
	"net/http"
	"time"
)

// vigil shows signs of life to an ingress while its request has no answer: of
// every change of its place in the queue, and every signEvery.
type vigil struct {
	r *Router

	turn  chan struct{} // 1 deep, a lock: an ingress that takes nothing may hold it for long
	w     http.ResponseWriter
	last  sign
	timer *time.Timer
	over  bool
}

// watchOver begins a vigil. Until end nobody else may use w.
func (r *Router) watchOver(w http.ResponseWriter) *vigil {
	v := &vigil{r: r, w: w, last: sign{phase: "running"}, turn: make(chan struct{}, 1)}
	v.lock()
	defer v.unlock()
	v.timer = time.AfterFunc(signEvery, v.again)
	return v
}

func (v *vigil) lock()   { v.turn <- struct{}{} }
func (v *vigil) unlock() { <-v.turn }

// show sends a sign of life, which holds until the next one.
func (v *vigil) show(s sign) {
	v.lock()
	defer v.unlock()
	v.last = s
	v.send()
}

// admitted takes back what was said of a place in the queue.
func (v *vigil) admitted() {
	v.lock()
	defer v.unlock()
	if v.last.position > 0 {
		v.last = sign{phase: "running"}
		v.send()
	}
}

func (v *vigil) again() {
	v.lock()
	defer v.unlock()
	if v.send(); !v.over {
		v.timer.Reset(signEvery)
	}
}

// send writes the last sign. It is our turn.
//
// The HTTP/2 server writes a 1xx from the handler's own header map, and does
// not wait for that when the stream or the connection ends meanwhile: whoever
// touches the map next then races with its writer. It writes from a copy when
// the map has a length, which it leaves out of a 1xx.
func (v *vigil) send() {
	if v.over {
		return
	}
	h := v.w.Header()
	clearSign(h)
	v.last.write(h)
	v.r.report.write(h, v.r.backend)
	h.Set("Content-Length", "0")
	v.w.WriteHeader(http.StatusProcessing)
	h.Del("Content-Length")
}

// end ends the vigil; w is the caller's again. Doing so twice is once too often
// and no harm.
func (v *vigil) end() {
	v.lock()
	defer v.unlock()
	if v.over {
		return
	}
	v.over = true
	v.timer.Stop()
	clearSign(v.w.Header())
}
