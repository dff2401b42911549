package compare

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/ollamatest"
)

// String is m as the fake's command line has it: name=rate/first.
func (m Model) String() string {
	return m.Name + "=" + strconv.FormatFloat(m.Rate, 'f', -1, 64) + "/" + m.First.String()
}

// ParseModel reads what String wrote.
func ParseModel(text string) (Model, error) {
	name, rest, ok := strings.Cut(text, "=")
	rate, first, ok2 := strings.Cut(rest, "/")
	if !ok || !ok2 {
		return Model{}, fmt.Errorf("compare: model %q is not name=rate/first", text)
	}
	m := Model{Name: name}
	var err error
	if m.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
		return Model{}, err
	}
	m.First, err = time.ParseDuration(first)
	return m, err
}

// ServeFaithful serves an ollamatest server with the models of b, and its
// counters on GET /stats, until ctx ends.
func (b *Backend) ServeFaithful(ctx context.Context, l net.Listener) error {
	config := ollamatest.Config{Parallel: b.Slots, MaxLoaded: len(b.Models)}
	for _, m := range b.Models {
		config.Models = append(config.Models, ollamatest.Model{Name: m.Name, Size: 1 << 20, Decode: m.Rate})
	}
	s := ollamatest.New(config)
	for _, m := range b.Models {
		if m.First > 0 {
			s.Fault(ollamatest.Fault{Kind: ollamatest.Stall, Model: m.Name, Delay: m.First, Times: ollamatest.Always})
		}
	}
	mux := http.NewServeMux()
	mux.Handle("/", s.Handler())
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		st := s.Stats()
		begun := 0
		for path, n := range st.Requests {
			if strings.HasPrefix(path, "POST /api/generate") {
				begun += n
			}
		}
		_ = json.NewEncoder(w).Encode(BackendStats{ // the asker is gone, then
			Started: int64(begun), Finished: int64(st.Completed), Running: int64(st.Running),
		})
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}
