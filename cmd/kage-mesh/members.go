package main

import (
	"fmt"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh/hardware"
	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

func (e environment) membersCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "members",
		Usage: "list the nodes of the mesh, their hardware and models",
		Description: "Lists every node that this machine's node knows, dead ones too (for a day).\n" +
			"72B says whether the node can hold a 72B model in 4-bit; TOK/S is its measured\n" +
			"speed on the model in memory; '-' means unknown.",
		Flags: []cli.Flag{apiFlag(), jsonFlag(), watchFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			client, err := adminClient(c)
			if err != nil {
				return err
			}
			if c.Bool("watch") {
				return watch(e, c, client, client.Members, environment.printMembers)
			}
			m, err := client.Members(c.Context)
			if err != nil {
				return adminError(err)
			}
			if c.Bool("json") {
				return e.writeJSON(m)
			}
			return e.printMembers(m)
		},
	})
}

func (e environment) printMembers(m admin.Members) error {
	header := []string{
		"NODE", "STATUS", "ROLE", "GPU", "VRAM", "RAM", "72B", "MODELS", "LOADED",
		"IN-FLIGHT", "TOK/S", "RTT", "ADDRESS", "VERSION",
	}
	var rows [][]string
	for _, n := range m.Members {
		rows = append(rows, memberRow(n))
	}
	return e.table(header, rows)
}

func memberRow(n admin.Member) []string {
	name, gpu := n.Name, n.GPU
	if n.Self {
		name += " *"
	}
	if n.GPUName != "" {
		gpu = n.GPUName
	}
	loaded := 0
	for _, m := range n.Models {
		if m.Loaded {
			loaded++
		}
	}
	flight := strconv.Itoa(n.Running)
	if n.Waiting > 0 {
		flight += fmt.Sprintf("+%d", n.Waiting)
	}
	speed, rtt := "-", "-"
	if n.TokensPerS > 0 {
		speed = strconv.FormatFloat(n.TokensPerS, 'f', 1, 64)
	}
	if n.RTTMillis > 0 {
		rtt = strconv.FormatFloat(n.RTTMillis, 'f', 1, 64) + "ms"
	}
	return []string{
		name, n.Status, orDash(n.Role), orDash(gpu), memory(n.VRAMFree, n.VRAMTotal), memory(n.RAMFree, n.RAMTotal),
		yesNo(n.Capable72B), strconv.Itoa(len(n.Models)), strconv.Itoa(loaded),
		flight, speed, rtt, n.Address, orDash(n.Version),
	}
}

// memory is "free/total", with what is known of them.
func memory(free, total uint64) string {
	switch {
	case total == 0:
		return "-"
	case free == 0:
		return hardware.FormatSize(total)
	}
	return fmt.Sprintf("%s/%s", hardware.FormatSize(free), hardware.FormatSize(total))
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}
