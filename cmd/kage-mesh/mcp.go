package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) mcpCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "mcp",
		Usage: "answer an agent's questions about the mesh (MCP on standard input and output)",
		Description: "A Model Context Protocol server with four tools that only read: members, models,\n" +
			"status, explain. Agents start it themselves; for Claude Code:\n\n" +
			"  claude mcp add kage-mesh -- kage-mesh mcp",
		Flags: []cli.Flag{apiFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			in, ok := e.stdin.(io.ReadCloser)
			if !ok {
				in = io.NopCloser(e.stdin)
			}
			err = newMCP(client).Run(c.Context, &mcp.IOTransport{Reader: in, Writer: keepOpen{e.stdout}})
			if c.Context.Err() != nil || errors.Is(err, io.EOF) {
				return nil
			}
			return err
		},
	})
}

// keepOpen is a writer that is not ours to close.
type keepOpen struct{ io.Writer }

func (keepOpen) Close() error { return nil }

// question is what the tools are asked.
type (
	noQuestion    struct{}
	modelQuestion struct {
		Model string `json:"model" jsonschema:"name of the model, such as qwen2.5:72b"`
	}
)

// newMCP offers the node's own answers as tools. A tool that cannot answer says
// so in words, which an agent can act on.
func newMCP(client admin.Client) *mcp.Server {
	s := mcp.NewServer(&mcp.Implementation{Name: "kage-mesh", Title: "kage-mesh", Version: build().Version}, &mcp.ServerOptions{
		Instructions: "kage-mesh joins the Ollamas of several machines into one endpoint. These tools read the mesh as this machine's node sees it; they change nothing.",
	})
	tool := func(name, title, description string) *mcp.Tool {
		return &mcp.Tool{
			Name: name, Title: title, Description: description,
			Annotations: &mcp.ToolAnnotations{ReadOnlyHint: true, IdempotentHint: true},
		}
	}
	mcp.AddTool(s, tool("members", "Nodes of the mesh", "Every node: state, GPU, memory total and free, models on disk and in memory, requests in flight, tokens per second, versions."),
		func(ctx context.Context, _ *mcp.CallToolRequest, _ noQuestion) (*mcp.CallToolResult, any, error) {
			m, err := client.Members(ctx)
			for i := range m.Members {
				m.Members[i].Hardware = nil // long, and the sums are there
			}
			return answer(m, err)
		})
	mcp.AddTool(s, tool("status", "State of the mesh", "Is the mesh healthy, how many nodes are up, can it run a 72B model, how many requests run and wait."),
		func(ctx context.Context, _ *mcp.CallToolRequest, _ noQuestion) (*mcp.CallToolResult, any, error) {
			st, err := client.Status(ctx)
			return answer(st, err)
		})
	mcp.AddTool(s, tool("models", "Models of the mesh", "Every model in the mesh, and which nodes have it on disk and in memory."),
		func(ctx context.Context, _ *mcp.CallToolRequest, _ noQuestion) (*mcp.CallToolResult, any, error) {
			m, err := client.Members(ctx)
			return answer(modelsOf(m), err)
		})
	mcp.AddTool(s, tool("explain", "Why a request goes where it goes", "For one model: every node with its estimated wait, load, prefill and decode time, and why others are refused."),
		func(ctx context.Context, _ *mcp.CallToolRequest, q modelQuestion) (*mcp.CallToolResult, any, error) {
			if q.Model == "" {
				return answer(nil, errors.New("name a model, as the models tool lists them"))
			}
			raw, err := explainRaw(ctx, client.Base, q.Model)
			return answer(raw, err)
		})
	return s
}

// answer is v as JSON text, or the error as the tool's own answer.
func answer(v any, err error) (*mcp.CallToolResult, any, error) {
	if err != nil {
		var r mcp.CallToolResult
		r.SetError(err)
		return &r, nil, nil
	}
	text, err := json.Marshal(v)
	if err != nil {
		return nil, nil, err
	}
	return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: string(text)}}}, nil, nil
}

// meshModel is one model over all nodes.
type meshModel struct {
	Name     string   `json:"name"`
	Size     uint64   `json:"size"` // bytes on disk
	OnDisk   []string `json:"on_disk"`
	InMemory []string `json:"in_memory"`
}

// modelsOf turns members with models into models with members, in the order
// that they are first met. Nodes that are not alive have none to offer.
func modelsOf(m admin.Members) []meshModel {
	out, at := []meshModel{}, map[string]int{}
	for _, n := range m.Members {
		if n.Status != "alive" && n.Status != "draining" {
			continue
		}
		for _, model := range n.Models {
			i, ok := at[model.Name]
			if !ok {
				i = len(out)
				at[model.Name] = i
				out = append(out, meshModel{Name: model.Name, Size: model.Size, OnDisk: []string{}, InMemory: []string{}})
			}
			out[i].OnDisk = append(out[i].OnDisk, n.Name)
			if model.Loaded {
				out[i].InMemory = append(out[i].InMemory, n.Name)
			}
		}
	}
	return out
}

// explainRaw is the node's own explanation, as it gives it.
func explainRaw(ctx context.Context, base, model string) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/mesh/v1/explain?"+url.Values{"model": {model}}.Encode(), nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK || !json.Valid(body) {
		return nil, fmt.Errorf("the node answers %s to explain: %.200s", resp.Status, body)
	}
	return body, nil
}
