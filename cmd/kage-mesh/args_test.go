package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func TestFlagsFirst(t *testing.T) {
	commands := []*cli.Command{
		{Name: "explain", Flags: []cli.Flag{
			&cli.BoolFlag{Name: "json"}, &cli.StringFlag{Name: "id", Aliases: []string{"i"}},
		}},
		{Name: "models", Subcommands: []*cli.Command{{Name: "pull", Flags: []cli.Flag{&cli.StringFlag{Name: "node"}}}}},
	}
	tests := []struct{ in, want string }{
		{"", ""},
		{"km", "km"},
		{"km explain", "km explain"},
		{"km explain m --json", "km explain --json m"},
		{"km explain m --id x --json", "km explain --id x --json m"},
		{"km explain m --id=x n", "km explain --id=x m n"},
		{"km explain m -i x", "km explain -i x m"},
		{"km explain m --unknown x", "km explain --unknown m x"},
		{"km explain -- m --json", "km explain -- m --json"},
		{"km explain m -", "km explain m -"},
		{"km explain m --id", "km explain --id m"},
		{"km models pull m --node a", "km models pull --node a m"},
		{"km models m --node a", "km models m --node a"},
		{"km nosuch m --json", "km nosuch m --json"},
	}
	for _, tt := range tests {
		if got := strings.Join(flagsFirst(commands, strings.Fields(tt.in)), " "); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
	args := strings.Fields("km explain m --json")
	before := slices.Clone(args)
	if flagsFirst(commands, args); !slices.Equal(args, before) {
		t.Error("the caller's arguments were changed")
	}
}
