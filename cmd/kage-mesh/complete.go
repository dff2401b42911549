package main

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/router/admin"
)

// completeWord is how the scripts of `kage-mesh completion` ask what may come
// next: kage-mesh __complete =WORD [WORD...], the word that is being typed with
// a '=' before it, since not every shell can give an empty argument, and then
// the words before it, without the program's name. The answer is an offer a
// line, and nothing where a file name is as good as anything else.
const completeWord = "__complete"

// completeLimit is how long a node may take to tell its names: a person who
// pressed a key waits.
const completeLimit = time.Second

// complete answers a shell.
func (e environment) complete(ctx context.Context, args []string) []string {
	if len(args) == 0 || !strings.HasPrefix(args[0], "=") {
		return nil
	}
	word, before := args[0][1:], args[1:]
	offers := e.offers(ctx, newApp(e), word, before)
	return slices.DeleteFunc(offers, func(o string) bool { return !strings.HasPrefix(o, word) })
}

// offers are all words that may stand after before; word is the beginning that
// is there.
func (e environment) offers(ctx context.Context, app *cli.App, word string, before []string) []string {
	command, n := commandOf(app.Commands, append([]string{""}, before...))
	flags, subcommands, rest := app.Flags, app.Commands, before
	if command != nil {
		flags, subcommands, rest = command.Flags, command.Subcommands, before[n-1:]
	}
	if len(rest) > 0 && wantsValue(flags, rest[len(rest)-1]) {
		return e.values(ctx, strings.TrimLeft(rest[len(rest)-1], "-"), before)
	}
	if strings.HasPrefix(word, "-") && !slices.Contains(rest, "--") {
		return flagNames(flags)
	}
	given := arguments(flags, rest)
	if given == 0 && len(subcommands) > 0 {
		var out []string
		for _, c := range subcommands {
			if !c.Hidden {
				out = append(out, c.Name)
			}
		}
		return out
	}
	if command == nil {
		return nil
	}
	// What a command takes is said by its usage line: MODEL, MODEL..., [NODE].
	kinds := strings.Fields(strings.Trim(command.ArgsUsage, "[]"))
	if len(kinds) == 0 || given >= len(kinds) && !strings.HasSuffix(kinds[len(kinds)-1], "...") {
		return nil
	}
	switch kind := strings.TrimSuffix(kinds[min(given, len(kinds)-1)], "..."); {
	case kind == "MODEL":
		return e.modelNames(ctx, before)
	case kind == "NODE":
		return e.nodeNames(ctx, before)
	case strings.Contains(kind, "|"):
		return strings.Split(kind, "|")
	}
	return nil
}

// flagNames are the long forms of flags.
func flagNames(flags []cli.Flag) []string {
	out := []string{"--help"}
	for _, f := range flags {
		if v, ok := f.(cli.VisibleFlag); ok && !v.IsVisible() || f.Names()[0] == "help" {
			continue
		}
		out = append(out, "--"+f.Names()[0])
	}
	return out
}

// arguments counts the words that are neither flags nor their values.
func arguments(flags []cli.Flag, words []string) (n int) {
	for i := 0; i < len(words); i++ {
		switch {
		case words[i] == "--":
			return n + len(words) - i - 1
		case len(words[i]) < 2 || words[i][0] != '-':
			n++
		case wantsValue(flags, words[i]):
			i++
		}
	}
	return n
}

// values are what a flag may be set to; none are known for most.
func (e environment) values(ctx context.Context, flag string, before []string) []string {
	switch flag {
	case "node":
		return append(e.nodeNames(ctx, before), "all", "capable")
	case "log-level":
		return []string{"debug", "info", "warn", "error"}
	case "log-format":
		return []string{"auto", "text", "json"}
	case "scope":
		return []string{"connectivity", "services", "models", "parallel"}
	}
	return nil
}

// nodeNames are the members that have not left, modelNames what they have on
// disk: as the running node knows them, nothing when none runs.
func (e environment) nodeNames(ctx context.Context, before []string) (out []string) {
	for _, m := range e.known(ctx, before).Members {
		if m.Status != "left" {
			out = append(out, m.Name)
		}
	}
	return out
}

func (e environment) modelNames(ctx context.Context, before []string) (out []string) {
	for _, m := range e.known(ctx, before).Members {
		if m.Status == "left" {
			continue
		}
		for _, model := range m.Models {
			out = append(out, strings.TrimSuffix(model.Name, ":latest"))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// known is what the node tells that the words before name, by --api, or else
// the environment.
func (e environment) known(ctx context.Context, before []string) admin.Members {
	api := e.getenv("KAGE_API")
	if api == "" {
		api = defaultAPI
	}
	for i, w := range before {
		if value, ok := strings.CutPrefix(strings.TrimLeft(w, "-"), "api="); ok {
			api = value
		} else if (w == "--api" || w == "-api") && i+1 < len(before) {
			api = before[i+1]
		}
	}
	client, err := clientOf(api)
	if err != nil {
		return admin.Members{}
	}
	ctx, cancel := context.WithTimeout(ctx, completeLimit)
	defer cancel()
	m, err := client.Members(ctx)
	if err != nil {
		return admin.Members{} // quiet: a shell shows whatever is said
	}
	return m
}
