package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// completionPatience is how long a shell waits for names of nodes and models
// when somebody presses tab.
const completionPatience = 500 * time.Millisecond

// completeModels offers the flags of a command, and the models of the mesh as
// its argument.
func (e environment) completeModels(c *cli.Context) {
	e.complete(c, func(m admin.Members) (names []string) {
		for _, n := range m.Members {
			for _, model := range n.Models {
				names = append(names, strings.TrimSuffix(model.Name, ":latest"))
			}
		}
		return names
	})
}

// complete asks the running node; without one only the flags are offered.
func (e environment) complete(c *cli.Context, names func(admin.Members) []string) {
	cli.DefaultCompleteWithFlags(c.Command)(c)
	client, err := adminClient(c)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), completionPatience)
	defer cancel()
	m, err := client.Members(ctx)
	if err != nil {
		return
	}
	offers := names(m)
	slices.Sort(offers)
	for _, name := range slices.Compact(offers) {
		fmt.Fprintln(e.stdout, name)
	}
}
