package compare

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
)

// pace says when a token is due.
type pace struct {
	start time.Time
	rate  float64 // tokens per second; 0 at once
	timer *time.Timer
}

// wait returns when the n-th token (from 1; 0 is the start) is due, false when
// the client has gone.
func (p *pace) wait(n int, gone <-chan struct{}) bool {
	due := p.start
	if p.rate > 0 {
		due = due.Add(time.Duration(float64(n) / p.rate * float64(time.Second)))
	}
	left := time.Until(due)
	if left <= 0 {
		select {
		case <-gone:
			return false
		default:
			return true
		}
	}
	if p.timer == nil {
		p.timer = time.NewTimer(left)
	} else {
		p.timer.Reset(left)
	}
	select {
	case <-p.timer.C:
		return true
	case <-gone:
		p.timer.Stop()
		return false
	}
}

// watcher notices, while an answer is paced, that its client has left.
type watcher struct {
	x    *exchange
	gone chan struct{}
	done chan struct{}
}

func watch(x *exchange) *watcher {
	w := &watcher{x: x, gone: make(chan struct{}), done: make(chan struct{})}
	go func() {
		defer close(w.done)
		if _, err := x.in.Peek(1); err != nil && !isTimeout(err) {
			close(w.gone)
		}
	}()
	return w
}

// stop ends the watch, so that the next request can be read.
func (w *watcher) stop() {
	_ = w.x.conn.SetReadDeadline(time.Unix(1, 0))
	<-w.done
	_ = w.x.conn.SetReadDeadline(time.Time{})
}

func isTimeout(err error) bool {
	t, ok := err.(interface{ Timeout() bool })
	return ok && t.Timeout()
}

// appendToken appends the frame of token i.
func appendToken(b []byte, i int) []byte {
	now := time.Now()
	b = append(b, `{"model":"m1","created_at":"`...)
	b = now.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","response":" `...)
	b = strconv.AppendInt(b, int64(i), 10)
	b = append(b, '@')
	b = strconv.AppendInt(b, now.UnixNano(), 10)
	return append(b, "\",\"done\":false}\n"...)
}

func appendDone(b []byte, tokens int) []byte {
	b = append(b, `{"model":"m1","created_at":"`...)
	b = time.Now().UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","response":"","done":true,"done_reason":"stop","total_duration":1000000,"load_duration":0,"prompt_eval_count":3,"prompt_eval_duration":1000,"eval_count":`...)
	b = strconv.AppendInt(b, int64(tokens), 10)
	return append(b, ",\"eval_duration\":1000000}\n"...)
}

// appendChunk frames p for the wire (RFC 9112 section 7.1).
func appendChunk(b, p []byte) []byte {
	b = strconv.AppendInt(b, int64(len(p)), 16)
	b = append(b, "\r\n"...)
	b = append(b, p...)
	return append(b, "\r\n"...)
}

// whole writes an unstreamed answer.
func (x *exchange) whole(tokens int) bool {
	var text []byte
	for i := range tokens {
		text = append(text, ' ')
		text = strconv.AppendInt(text, int64(i), 10)
	}
	body := append([]byte(nil), `{"model":"m1","created_at":"2026-11-24T00:00:00Z","response":"`...)
	body = append(body, text...)
	body = append(body, `","done":true,"done_reason":"stop","prompt_eval_count":3,"eval_count":`...)
	body = strconv.AppendInt(body, int64(tokens), 10)
	body = append(body, '}')
	x.out = append(x.out[:0], "HTTP/1.1 200 OK\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: "...)
	x.out = strconv.AppendInt(x.out, int64(len(body)), 10)
	x.out = append(append(x.out, "\r\n\r\n"...), body...)
	_, err := x.conn.Write(x.out)
	return err == nil
}

func (x *exchange) json(status int, body string) bool {
	_, err := fmt.Fprintf(x.conn, "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
	return err == nil
}

const tagEntry = `{"name":%q,"model":%q,"modified_at":"2026-11-24T00:00:00Z","size":1000000,"digest":"%064x",` +
	`"details":{"family":"llama","parameter_size":"1M","quantization_level":"Q4_K_M"}`

func (b *Backend) entries(more string) string {
	var list []string
	for i, m := range b.Models {
		list = append(list, fmt.Sprintf(tagEntry, m.Name, m.Name, i+1)+more+"}")
	}
	return `{"models":[` + strings.Join(list, ",") + `]}`
}

func (b *Backend) tags() string { return b.entries("") }

func (b *Backend) ps() string {
	return b.entries(`,"size_vram":0,"context_length":4096,"expires_at":"2318-01-01T00:00:00Z"`)
}

func (b *Backend) stats() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := BackendStats{
		Started: b.started.Load(), Finished: b.finished.Load(), Running: b.running.Load(),
		Cancelled: append([]int64{}, b.cancelled...),
	}
	text, err := json.Marshal(s)
	if err != nil {
		return "{}" // numbers only
	}
	return string(text)
}

// readFull appends n bytes of r to b.
func readFull(r *bufio.Reader, b []byte, n int) ([]byte, error) {
	at := len(b)
	b = append(b, make([]byte, n)...)
	_, err := io.ReadFull(r, b[at:])
	return b, err
}

// readChunks appends a chunked body to b.
func readChunks(r *bufio.Reader, b []byte) ([]byte, error) {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return b, err
		}
		size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
		if err != nil {
			return b, err
		}
		if size > 0 {
			if b, err = readFull(r, b, int(size)); err != nil {
				return b, err
			}
		}
		if _, err := r.Discard(2); err != nil || size == 0 {
			return b, err
		}
	}
}
