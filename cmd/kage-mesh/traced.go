package main

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/node"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/tracing"
)

// flushLimit is how long a node that stops waits for its last traces to go.
const flushLimit = 2 * time.Second

// traced has the node's requests traced, where a collector is named. flush sends
// what is left of them.
func (e environment) traced(c *cli.Context, config *node.Config) (flush func(), err error) {
	endpoint := c.String("otlp-endpoint")
	if endpoint == "" {
		return func() {}, nil
	}
	host, _ := os.Hostname() // without a name the node's own is not there either
	t, err := tracing.New(c.Context, tracing.Config{
		Endpoint: endpoint, Node: cmp.Or(config.Name, host), Version: config.Version, Logger: config.Logger,
	})
	if err != nil {
		return nil, usage("give it as in http://localhost:4318", "bad URL in --otlp-endpoint: %w", err)
	}
	config.Tracer = t
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushLimit)
		defer cancel()
		_ = t.Close(ctx) // it has said in the log what it could not deliver
	}, nil
}
