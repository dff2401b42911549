package guard

import (
	"bytes"
	"errors"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/apikeys"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/wire"
)

var quietLog = log.New(io.Discard, "", 0)

// The whole policy, route by caller, through real sockets.
func TestWhoMayCallWhat(t *testing.T) {
	store, texts := keys(t)
	noSubnets := func() []netip.Prefix { return nil }
	trusted := []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
	unlocked, err := New(Config{Subnets: noSubnets, Trusted: trusted})
	if err != nil {
		t.Fatal(err)
	}
	locked, err := New(Config{Subnets: noSubnets, Trusted: trusted, Keys: store})
	if err != nil {
		t.Fatal(err)
	}
	bearer := func(s apikeys.Scope) []string { return []string{"Authorization", "Bearer " + texts[s]} }
	// One column of answers per area; every route of the mesh is in one.
	columns := strings.Fields("open infer read metrics manage control account unknown")
	routes := []struct{ column, method, path string }{
		{"open", "GET", "/mesh/v1/id"},
		{"open", "GET", "/health"},
		{"open", "GET", "/livez"},
		{"open", "GET", "/readyz"},
		{"read", "GET", "/health/gpu-box"},
		{"read", "GET", "/backends"},
		{"metrics", "GET", "/metrics"},
		{"control", "GET", "/mesh"},
		{"control", "GET", "/mesh/"},
		{"control", "GET", "/mesh/assets/app.js"},
		{"control", "GET", "/mesh/v1/members"},
		{"control", "GET", "/mesh/v1/status"},
		{"control", "GET", "/mesh/v1/events"},
		{"control", "GET", "/mesh/v1/keys"},
		{"control", "POST", "/mesh/v1/keys/rotate"},
		{"control", "POST", "/mesh/v1/evict"},
		{"control", "POST", "/mesh/v1/drain"},
		{"control", "POST", "/mesh/v1/leave"},
		{"control", "POST", "/mesh/v1/forward/api/chat"}, // the peer port's
		{"control", "PUT", "/mesh/v9/what-somebody-adds-one-day"},
		{"unknown", "GET", "/debug/pprof"},
		{"unknown", "GET", "/debug/vars"},
		{"unknown", "POST", "/api/what-ollama-adds-one-day"},
		{"unknown", "POST", "/v1/images/generations"},
		{"unknown", "GET", "/meshes"},
		{"unknown", "POST", "/API/chat"},
		{"unknown", "POST", "/api/chat/"},
	}
	for _, r := range wire.Routes() {
		column := map[wire.Class]string{wire.Inference: "infer", wire.Read: "read", wire.Manage: "manage", wire.Account: "account"}[r.Class]
		path := r.Pattern
		if i := strings.IndexByte(path, ':'); i >= 0 {
			path = path[:i] + "x"
		}
		routes = append(routes, struct{ column, method, path string }{column, r.Method, path})
	}
	tests := []struct {
		caller string
		guard  *Guard
		addr   string
		header []string
		want   string
	}{
		{"this machine, no keys set", unlocked, "", nil, "200 200 200 200 200 200 200 404"},
		{"this machine, keys set", locked, "", nil, "200 200 200 200 200 200 200 404"},
		{"this machine, dummy key of a client", locked, "", []string{"Authorization", "Bearer ollama"}, "200 200 200 200 200 200 200 404"},
		{"IPv6 loopback", locked, "::1", nil, "200 200 200 200 200 200 200 404"},
		{"this machine behind a proxy to the LAN", unlocked, "", []string{"X-Forwarded-For", "192.168.1.9"}, "200 200 200 403 403 403 403 404"},
		{"this machine behind a tunnel to the internet", unlocked, "", []string{"X-Forwarded-For", "127.0.0.1, 8.8.8.8"}, "401 401 401 403 403 403 403 404"},
		{"this machine behind a tunnel that says nothing", unlocked, "", []string{"Via", "1.1 tunnel"}, "401 401 401 403 403 403 403 404"},
		{"LAN, no keys set", unlocked, "192.168.1.7", nil, "200 200 200 403 403 403 403 404"},
		{"LAN, keys set", locked, "192.168.1.7", nil, "200 401 401 403 403 403 403 404"},
		{"LAN that claims to be here", locked, "192.168.1.7", []string{"X-Forwarded-For", "127.0.0.1"}, "200 401 401 403 403 403 403 404"},
		{"LAN, link-local IPv6", unlocked, "fe80::1", nil, "200 200 200 403 403 403 403 404"},
		{"LAN, dummy key, no keys set", unlocked, "192.168.1.7", []string{"x-api-key", "ollama"}, "200 200 200 403 403 403 403 404"},
		{"LAN, wrong key", locked, "192.168.1.7", []string{"Authorization", "Bearer kma-wrong"}, "200 401 401 403 403 403 403 404"},
		{"LAN, infer key", locked, "192.168.1.7", bearer(apikeys.Infer), "200 200 200 403 403 403 403 404"},
		{"LAN, infer key as x-api-key", locked, "192.168.1.7", []string{"x-api-key", texts[apikeys.Infer]}, "200 200 200 403 403 403 403 404"},
		{"LAN, metrics key", locked, "192.168.1.7", bearer(apikeys.Metrics), "200 403 403 200 403 403 403 404"},
		{"LAN, admin key", locked, "192.168.1.7", bearer(apikeys.Admin), "200 200 200 200 200 200 403 404"},
		{"trusted network, keys set", locked, "10.1.2.3", nil, "200 200 200 403 403 403 403 404"},
		{"public address, no keys set", unlocked, "8.8.8.8", nil, "401 401 401 403 403 403 403 404"},
		{"public address, infer key", locked, "8.8.8.8", bearer(apikeys.Infer), "200 200 200 403 403 403 403 404"},
		{"page of this machine", unlocked, "", []string{"Origin", "http://localhost:3000"}, "200 200 200 200 200 403 200 404"},
		{"page of another site", unlocked, "", []string{"Origin", "https://evil.example"}, "403 403 403 403 403 403 403 403"},
		{"page of another site on the LAN", unlocked, "192.168.1.7", []string{"Origin", "https://evil.example"}, "403 403 403 403 403 403 403 403"},
		{"sandboxed page", unlocked, "", []string{"Origin", "null"}, "403 403 403 403 403 403 403 403"},
		{"page by a simple GET", unlocked, "", []string{"Sec-Fetch-Site", "cross-site"}, "200 200 200 403 403 403 403 404"},
		{"rebinding", unlocked, "", []string{"Host", "evil.example"}, "403 403 403 403 403 403 403 403"},
		{"rebinding with its own origin", unlocked, "", []string{"Host", "evil.example", "Origin", "http://evil.example"}, "403 403 403 403 403 403 403 403"},
		{"rebinding to a name of the LAN", unlocked, "", []string{"Host", "toaster.local", "Origin", "http://toaster.local"}, "200 200 200 200 403 403 403 404"},
	}
	for _, tt := range tests {
		t.Run(tt.caller, func(t *testing.T) {
			d := serve(t, tt.guard, tt.addr)
			want := map[string]string{}
			for i, status := range strings.Fields(tt.want) {
				want[columns[i]] = status
			}
			for _, r := range routes {
				resp, text := do(t, r.method, "http://"+d.addr+r.path, "{}", tt.header...)
				if got := resp.Status[:3]; got != want[r.column] {
					t.Errorf("%s %s: %s, want %s as all of %s", r.method, r.path, got, want[r.column], r.column)
				}
				if r.method != http.MethodHead && (resp.StatusCode == 200) != (text == "reached") {
					t.Errorf("%s %s: %s with %q", r.method, r.path, resp.Status, text)
				}
				if resp.Header.Get("X-Leaked") != "" {
					t.Errorf("%s %s: the key went on to the handler", r.method, r.path)
				}
				if resp.StatusCode == http.StatusUnauthorized && resp.Header.Get("WWW-Authenticate") == "" {
					t.Errorf("%s %s: 401 without WWW-Authenticate", r.method, r.path)
				}
			}
			if n := len(d.echo.took()); n == 0 && strings.Contains(tt.want, "200") {
				t.Error("nothing reached the handler")
			}
		})
	}
}

// Every route of Ollama's has an area, and none is open by accident.
func TestEveryRouteHasAnArea(t *testing.T) {
	for class, area := range map[wire.Class]Area{
		wire.Inference: Inference, wire.Read: Read, wire.Manage: Manage, wire.Account: Account,
	} {
		for _, r := range []struct{ method, path string }{
			{"POST", "/api/generate"},
			{"GET", "/"},
			{"HEAD", "/"},
			{"POST", "/api/show"},
			{"POST", "/api/pull"},
			{"POST", "/api/signout"},
			{"DELETE", "/api/user/keys/x"},
			{"GET", "/v1/models/a"},
		} {
			route, _, ok := wire.Lookup(r.method, r.path)
			if !ok {
				t.Fatalf("%s %s is no route", r.method, r.path)
			}
			if got, _ := AreaOf(r.method, r.path); route.Class == class && got != area {
				t.Errorf("%s %s: area %v, want %v", r.method, r.path, got, area)
			}
		}
	}
	if a, _ := AreaOf("BREW", "/api/chat"); a != Inference {
		t.Errorf("wrong method: %v", a)
	}
	for _, p := range []string{"", "/mesh/v1/id/", "/mesh/v1/id/../leave", "/meshes", "/API/chat", "/api/chat/", "/api//chat", "/metrics/", "/debug"} {
		if a, _ := AreaOf("GET", p); a == Open || a == Read || a == Inference || a == Metrics {
			t.Errorf("%q is %v", p, a)
		}
	}
}

func TestRefusalsSpeakTheCallersDialect(t *testing.T) {
	d := open(t, Config{RequireKey: true}, "192.168.1.7")
	for path, want := range map[string]string{
		"/api/chat":            `{"error":"this node needs`,
		"/v1/chat/completions": `"type":"authentication_error"`,
		"/v1/messages":         `{"type":"error","error":{"type":"authentication_error"`,
	} {
		resp, text := do(t, "POST", "http://"+d.addr+path, "{}")
		if resp.StatusCode != 401 || !strings.Contains(text, want) {
			t.Errorf("%s: %s %s", path, resp.Status, text)
		}
	}
}

func TestCallersAreNamedForFairness(t *testing.T) {
	store, texts := keys(t)
	g, err := New(Config{Keys: store, Trusted: []netip.Prefix{netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("10.0.0.0/8")}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		addr, key, want string
	}{
		{"10.0.0.9", "", "10.0.0.9"},
		{"2001:db8::17", "", "2001:db8::/64"},
		{"10.0.0.9", texts[apikeys.Infer], "key:k-infer"},
	} {
		d := serve(t, g, tt.addr)
		resp, _ := do(t, "GET", "http://"+d.addr+"/api/tags", "", "X-Api-Key", tt.key)
		if got := resp.Header.Get("X-Caller"); got != tt.want {
			t.Errorf("%s with key %v: %q, want %q", tt.addr, tt.key != "", got, tt.want)
		}
	}
}

// A panic is told without its value, which may quote a prompt.
func TestPanicsTellNoSecrets(t *testing.T) {
	for name, v := range map[string]any{"string": "canary", "error": errors.New("canary")} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			func() {
				defer func() {
					if recover() != http.ErrAbortHandler { //nolint:errorlint // net/http's contract
						t.Error("the connection does not end")
					}
				}()
				defer Contain(slog.New(slog.NewTextHandler(&out, nil)))
				panic(v)
			}()
			if strings.Contains(out.String(), "canary") || !strings.Contains(out.String(), "stack=") {
				t.Errorf("log: %s", out.String())
			}
		})
	}
}
