package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"
)

// version is set by the linker in a release; other builds say "dev".
var version = "dev"

// buildInfo is what `version --json` prints.
type buildInfo struct {
	Version  string `json:"version"`
	Commit   string `json:"commit"`
	Modified bool   `json:"modified"` // built from a tree with changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
	Protocol int    `json:"protocol"` // nodes with equal numbers work together
}

func build() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH, Protocol: protocol}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; b.Version == "dev" && v != "" && v != "(devel)" {
		b.Version = v // installed by `go install ...@version`
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func (e environment) versionCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name:  "version",
		Usage: "print the version",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			b := build()
			if c.Bool("json") {
				return e.writeJSON(b)
			}
			commit := ""
			if len(b.Commit) >= 12 {
				commit = " · " + b.Commit[:12]
			}
			fmt.Fprintf(e.stdout, "kage-mesh %s%s · %s · %s\n", b.Version, commit, b.Go, b.Platform)
			return nil
		},
	})
}
