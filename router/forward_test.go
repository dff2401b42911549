package router

import (
	"bufio"
	"bytes"
	"errors"
	"maps"
	"net/http"
	"net/textproto"
	"slices"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/render"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

// private is what a client's request must never carry to a backend.
var private = []string{
	"Authorization", "X-Api-Key", "Cookie", "Origin", "Referer", "Forwarded", "X-Forwarded-For", "Sec-Fetch-Site",
	"Connection", "Transfer-Encoding", "Content-Length", "X-Kage-Hop", "X-Kage-Model",
}

func TestCredentialsStayAtTheIngress(t *testing.T) {
	in := http.Header{"Accept": {"text/plain"}, "Content-Type": {"application/json"}}
	for _, name := range private {
		in.Set(name, "x")
	}
	want := []string{"Accept", "Content-Type"}
	if got := slices.Sorted(maps.Keys(callerHeaders(in))); !slices.Equal(got, want) {
		t.Errorf("%v go on, want %v", got, want)
	}
}

// What another node says in the forward protocol, in headers and in a takeup,
// is read or refused, and never more than it is.
func FuzzForward(f *testing.F) {
	f.Add("X-Kage-Phase: queued\r\nX-Kage-Position: 3\r\nX-Kage-Start: 1500\r\nX-Kage-Load: AAAA\r\n", []byte(`{"kind":"chat","request":{"model":"m","messages":[{"role":"user","content":"x"}]},"text":"so far","tokens":2,"ollama":"0.11.4"}`))
	f.Add("X-Kage-Position: -1\r\nX-Kage-Start: 9223372036854775807\r\n", []byte(`{"kind":"generate","request":{"model":"m","prompt":"x"},"tokens":-1}`))
	f.Add("X-Kage-Promise: 9223372036854775807\r\nAuthorization: Bearer x\r\nX-Api-Key: y\r\n", []byte(`{"kind":"v1-chat","request":[]}`))
	f.Add("", []byte(`{"kind":"v1-responses","request":null}`))
	f.Add("Cookie: a\r\nTe: x\r\n", []byte(`{`))
	const limit = 1 << 16
	r := &Router{config: Config{MaxBody: limit}}
	f.Fuzz(func(t *testing.T, head string, body []byte) {
		mime, err := textproto.NewReader(bufio.NewReader(strings.NewReader(head + "\r\n\r\n"))).ReadMIMEHeader()
		if err == nil {
			h := http.Header(mime)
			if s := readSign(h); s.position < 0 || s.start < 0 {
				t.Errorf("place %d in a queue, begins in %v", s.position, s.start)
			}
			out := callerHeaders(h)
			for _, name := range private {
				if len(out[name]) > 0 {
					t.Errorf("%s goes on to the backend", name)
				}
			}
		}
		taken, err := r.readTakeup(bytes.NewReader(body))
		if err != nil {
			if !errors.Is(err, errCannot) {
				t.Errorf("a takeup that cannot be read is an error of another kind: %v", err)
			}
			return
		}
		if len(taken.Request) > len(body) || len(taken.Text) > 3*len(body) {
			t.Errorf("%d bytes became a request of %d and a text of %d", len(body), len(taken.Request), len(taken.Text))
		}
		kind := kindOf(taken.Kind)
		if kind != wire.NoKind && kind.String() != taken.Kind {
			t.Errorf("%q is taken for %v", taken.Kind, kind)
		}
		if q, err := render.Read(kind, taken.Request); err == nil && q.Model == "" && len(taken.Request) == 0 {
			t.Error("no request was read as one")
		}
	})
}
