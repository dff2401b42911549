package main

import (
	"fmt"
	"os"
	"strings"

	"github.com/urfave/cli/v2"
)

func (e environment) manCommand() *cli.Command {
	return subcommand(&cli.Command{
		Name: "man", Hidden: true,
		Usage:       "print the manual page",
		Description: "For packages and for 'kage-mesh man | man -l -'.",
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			_, err := fmt.Fprint(e.stdout, manPage(newApp(e)))
			return err
		},
	})
}

// manPage is all commands with their flags in the language of man(7). It says
// nothing of the machine that it was made on, so that a package is the same
// wherever it is built.
func manPage(app *cli.App) string {
	var m manual
	m.line(".TH KAGE-MESH 1 \"\" \"kage-mesh %s\" \"User Commands\"", m.text(app.Version))
	m.line(".SH NAME\nkage-mesh \\- %s", m.text(app.Usage))
	m.line(".SH SYNOPSIS\n.B kage-mesh\n.I COMMAND\n[\\fIFLAGS\\fR] [\\fIARGUMENTS\\fR]")
	m.line(".SH DESCRIPTION\n%s", m.text("Run 'kage-mesh join' beside each Ollama: the nodes find each other, and any of them takes "+
		"Ollama's, OpenAI's and Anthropic's requests on port 11435 and has each answered by the machine that will finish it first."))
	m.line(".SH COMMANDS")
	for _, c := range app.Commands {
		m.command("kage-mesh", c)
	}
	_, codes, _ := strings.Cut(exitCodes, "\n")
	m.line(".SH EXIT STATUS\n.nf\n%s.fi", m.text(codes))
	m.line(".SH FILES\n.TP\n.I %s\n%s\n.TP\n.I %s\n%s", m.text("~/.config/kage-mesh/config.yaml, /etc/kage-mesh/config.yaml"),
		m.text("Settings: the flags of join without their dashes."), m.text("~/.local/state/kage-mesh"), m.text("The node's identity and memory."))
	m.line(".SH SEE ALSO\n%s", m.text("https://github.com/AI-Prompt-Ops-Kitchen/kage-mesh"))
	return m.String()
}

// manual is a page in the making.
type manual struct{ strings.Builder }

func (m *manual) line(format string, args ...any) { fmt.Fprintf(m, format+"\n", args...) }

// text makes words safe: roff reads backslashes, and lines that begin with a
// dot or a quote.
func (m *manual) text(s string) string {
	if home, err := os.UserHomeDir(); err == nil && len(home) > 1 {
		s = strings.ReplaceAll(s, home, "~")
	}
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// command writes a command and those below it.
func (m *manual) command(before string, c *cli.Command) {
	if c.Hidden || c.Name == "help" {
		return
	}
	name := before + " " + c.Name
	usage := name
	if len(c.Subcommands) > 0 {
		usage += " COMMAND"
	}
	if c.ArgsUsage != "" {
		usage += " " + c.ArgsUsage
	}
	m.line(".SS %s\n%s", m.text(usage), m.text(sentence(c.Usage)))
	if c.Description != "" {
		m.line(".PP\n.nf\n%s\n.fi", m.text(c.Description))
	}
	for _, f := range c.Flags {
		m.flag(f)
	}
	for _, sub := range c.Subcommands {
		m.command(name, sub)
	}
}

func (m *manual) flag(f cli.Flag) {
	d, ok := f.(cli.DocGenerationFlag)
	if v, seen := f.(cli.VisibleFlag); !ok || seen && !v.IsVisible() {
		return
	}
	placeholder, usage := placeholderOf(d.GetUsage())
	names := make([]string, 0, 2)
	for _, n := range f.Names() {
		dashes := "--"
		if len(n) == 1 {
			dashes = "-"
		}
		names = append(names, dashes+n)
	}
	m.Builder.WriteString(".TP\n.B " + m.text(strings.Join(names, ", ")))
	if d.TakesValue() {
		m.Builder.WriteString(" \\fI" + m.text(placeholder) + "\\fR")
	}
	m.line("\n%s", m.text(sentence(usage)))
	if v := d.GetDefaultText(); d.TakesValue() && v != "" && v != `""` && v != "0" {
		m.line("%s", m.text("Default: "+strings.Trim(v, `"`)+"."))
	}
	if env := d.GetEnvVars(); len(env) > 0 {
		m.line("%s", m.text("Environment: "+strings.Join(env, ", ")+"."))
	}
}

// placeholderOf takes the name of a flag's value out of its usage, where it
// stands between back quotes.
func placeholderOf(usage string) (name, rest string) {
	before, after, ok := strings.Cut(usage, "`")
	if !ok {
		return "VALUE", usage
	}
	name, after, _ = strings.Cut(after, "`")
	return name, before + name + after
}

// sentence is a usage line as a sentence.
func sentence(s string) string {
	if s == "" {
		return ""
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
