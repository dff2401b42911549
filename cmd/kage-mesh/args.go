package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// flagsFirst moves the flags of a command line in front of its arguments, so
// that `explain MODEL --json` means the same as `explain --json MODEL`: the
// library takes everything after the first argument for arguments.
func flagsFirst(commands []*cli.Command, args []string) []string {
	command, n := commandOf(commands, args)
	if command == nil || len(command.Subcommands) > 0 {
		return args // no command, or one that still waits for its own
	}
	flags, rest := command.Flags, args[n:]
	out := slices.Clone(args[:n])
	var arguments []string
	for len(rest) > 0 {
		word := rest[0]
		rest = rest[1:]
		switch {
		case word == "--":
			arguments = append(append(arguments, word), rest...)
			rest = nil
		case len(word) < 2 || word[0] != '-':
			arguments = append(arguments, word)
		default:
			out = append(out, word)
			if wantsValue(flags, word) && len(rest) > 0 {
				out, rest = append(out, rest[0]), rest[1:]
			}
		}
	}
	return append(out, arguments...)
}

// commandOf finds the command that a command line names, and the number of
// words that it takes to do so; nil when it names none.
func commandOf(commands []*cli.Command, args []string) (found *cli.Command, n int) {
	for n = 1; n < len(args); n++ {
		i := slices.IndexFunc(commands, func(c *cli.Command) bool { return c.HasName(args[n]) })
		if i < 0 {
			break
		}
		found, commands = commands[i], commands[i].Subcommands
	}
	return found, n
}

// wantsValue reports whether the word after a flag is its value.
func wantsValue(flags []cli.Flag, word string) bool {
	name := strings.TrimLeft(word, "-")
	if strings.Contains(name, "=") {
		return false
	}
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			_, isBool := f.(*cli.BoolFlag)
			return !isBool
		}
	}
	return false
}
