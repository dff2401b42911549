package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"github.com/urfave/cli/v2"
)

// configFlag names the configuration file.
func configFlag() cli.Flag {
	return &cli.StringFlag{
		Name: "config", EnvVars: []string{"KAGE_CONFIG"},
		Usage: "configuration `FILE`, YAML with the names of these flags (default: config.yaml in " + configHome() + ", then " + configSystem() + ")",
	}
}

// configHome and configSystem are where a configuration file is looked for.
func configHome() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return configSystem()
	}
	return filepath.Join(dir, "kage-mesh")
}

func configSystem() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "kage-mesh")
	}
	return "/etc/kage-mesh"
}

// readConfig reads the file named, or the first of the default places that has
// one; nil data means there is none.
func readConfig(named string) (path string, data []byte, err error) {
	if named != "" {
		data, err = os.ReadFile(named)
		if err != nil {
			return named, nil, usage("check the path in --config", "cannot read the configuration: %w", err)
		}
		return named, data, nil
	}
	for _, dir := range []string{configHome(), configSystem()} {
		path = filepath.Join(dir, "config.yaml")
		data, err = os.ReadFile(path)
		switch {
		case err == nil:
			return path, data, nil
		case !errors.Is(err, fs.ErrNotExist):
			return path, nil, usage("make it readable, or name another with --config", "cannot read the configuration: %w", err)
		}
	}
	return "", nil, nil
}

// stateHome is where a node keeps its key and what it remembers.
func stateHome() string {
	if dir := os.Getenv("STATE_DIRECTORY"); dir != "" {
		return dir // systemd's StateDirectory=
	}
	if runtime.GOOS == "linux" {
		if dir := os.Getenv("XDG_STATE_HOME"); dir != "" {
			return filepath.Join(dir, "kage-mesh")
		}
		if home, err := os.UserHomeDir(); err == nil {
			return filepath.Join(home, ".local", "state", "kage-mesh")
		}
		return "/var/lib/kage-mesh"
	}
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "kage-mesh", "state")
	}
	return fmt.Sprintf("kage-mesh-state-%d", os.Getuid())
}
