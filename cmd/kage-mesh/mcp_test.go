package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/meshtest"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// agent is an MCP client connected to the server that asks base.
func agent(t *testing.T, base string) *mcp.ClientSession {
	t.Helper()
	here, there := mcp.NewInMemoryTransports()
	server, err := newMCP(admin.Client{Base: base}).Connect(t.Context(), there, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	session, err := mcp.NewClient(&mcp.Implementation{Name: "test", Version: "1"}, nil).Connect(t.Context(), here, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = session.Close() })
	return session
}

// call asks a tool and returns its text.
func call(t *testing.T, s *mcp.ClientSession, tool string, args any) (text string, failed bool) {
	t.Helper()
	r, err := s.CallTool(t.Context(), &mcp.CallToolParams{Name: tool, Arguments: args})
	if err != nil {
		t.Fatalf("%s: %v", tool, err)
	}
	if len(r.Content) != 1 {
		t.Fatalf("%s: %d parts", tool, len(r.Content))
	}
	return r.Content[0].(*mcp.TextContent).Text, r.IsError
}

func TestMCP(t *testing.T) {
	v := meshtest.View(
		meshtest.Member("a", meshtest.Self(), meshtest.Models("x:latest")),
		meshtest.Member("b", meshtest.Models("x:latest", "y:latest"), meshtest.LoadOf(func(l *mesh.Load) {
			l.Models = []mesh.ModelLoad{{Key: "y:latest", Resident: true}}
		})),
		meshtest.Member("c", meshtest.Gone(mesh.Failed), meshtest.Models("z:latest")),
	)
	mux := http.NewServeMux()
	mux.Handle("/", admin.Handler(admin.Config{View: func() *mesh.View { return v }, Cluster: "home"}))
	mux.HandleFunc("/mesh/v1/explain", func(w http.ResponseWriter, req *http.Request) {
		_, _ = w.Write([]byte(`{"asked":"` + req.URL.Query().Get("model") + `"}`))
	})
	node := httptest.NewServer(mux)
	defer node.Close()
	s := agent(t, node.URL)

	tools, err := s.ListTools(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, tool := range tools.Tools {
		if tool.Annotations == nil || !tool.Annotations.ReadOnlyHint || tool.Description == "" {
			t.Errorf("%s does not say that it only reads", tool.Name)
		}
	}
	if len(tools.Tools) != 4 {
		t.Errorf("%d tools", len(tools.Tools))
	}
	if text, failed := call(t, s, "members", nil); failed || !strings.Contains(text, `"name":"b"`) || strings.Contains(text, `"hardware"`) {
		t.Errorf("members: %s", text)
	}
	if text, failed := call(t, s, "status", nil); failed || !strings.Contains(text, `"health":"DEGRADED"`) {
		t.Errorf("status: %s", text)
	}
	var models []meshModel
	text, _ := call(t, s, "models", nil)
	if err := json.Unmarshal([]byte(text), &models); err != nil || len(models) != 2 {
		t.Fatalf("models: %s, %v", text, err)
	}
	if x, y := models[0], models[1]; strings.Join(x.OnDisk, " ") != "a b" || len(x.InMemory) != 0 || strings.Join(y.InMemory, " ") != "b" {
		t.Errorf("models: %+v", models)
	}
	if text, failed := call(t, s, "explain", map[string]any{"model": "x:latest"}); failed || text != `{"asked":"x:latest"}` {
		t.Errorf("explain: %s", text)
	}
}

func TestMCPWithoutANodeSaysSo(t *testing.T) {
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	s := agent(t, gone.URL)
	for tool, args := range map[string]any{"members": nil, "status": nil, "models": nil, "explain": map[string]any{"model": "x"}} {
		if text, failed := call(t, s, tool, args); !failed || !strings.Contains(text, "refused") {
			t.Errorf("%s: failed %v, %s", tool, failed, text)
		}
	}
}

// The command itself speaks on standard output, and nothing but the protocol;
// it ends with its input.
func TestMCPOnStandardInput(t *testing.T) {
	in, ask := io.Pipe()
	hear, out := io.Pipe()
	var stderr syncBuffer
	e := environment{stdin: in, stdout: out, stderr: &stderr, getenv: func(string) string { return "" }}
	code := make(chan int, 1)
	go func() { code <- e.main([]string{"kage-mesh", "mcp"}) }()
	hello := `{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18","capabilities":{},"clientInfo":{"name":"t","version":"1"}}}`
	if _, err := io.WriteString(ask, hello+"\n"); err != nil {
		t.Fatal(err)
	}
	var reply struct {
		Result struct {
			ServerInfo struct{ Name string } `json:"serverInfo"`
		} `json:"result"`
	}
	if err := json.NewDecoder(hear).Decode(&reply); err != nil || reply.Result.ServerInfo.Name != "kage-mesh" {
		t.Errorf("%+v: %v", reply, err)
	}
	ask.Close()
	if c := <-code; c != 0 {
		t.Errorf("exit %d: %s", c, stderr.String())
	}
}
