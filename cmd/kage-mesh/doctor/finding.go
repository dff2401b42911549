package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Scope is a part of the checks.
type Scope string

// The scopes. Parallel is no check of facts, see [Compare].
const (
	Connectivity Scope = "connectivity"
	Services     Scope = "services"
	Models       Scope = "models"
	Parallel     Scope = "parallel"
)

// Scopes lists all of them, in the order of a report.
var Scopes = []Scope{Connectivity, Services, Models, Parallel}

// Level is how good a finding is.
type Level string

// The levels, worst first.
const (
	Failed  Level = "failed"  // something does not work
	Warning Level = "warning" // it works, and should not be left so
	Passed  Level = "passed"
)

// Finding is what one check says of one thing.
type Finding struct {
	Check    string `json:"check"`
	Scope    Scope  `json:"scope"`
	Level    Level  `json:"level"`
	Evidence string `json:"evidence"`
	Fix      string `json:"fix,omitempty"` // commands, each in a line; "" of what passed
	On       string `json:"on,omitempty"`  // node where to run them; "" is this machine
	Why      string `json:"why,omitempty"` // what it means, for --fix-hints
}

// check is one kind of finding.
type check struct {
	name  string
	scope Scope
	run   func(Facts) []Finding
}

// checks in the order of a report.
var checks = []check{
	{"node", Connectivity, node},
	{"address", Connectivity, address},
	{"interface", Connectivity, interfaces},
	{"docker", Connectivity, docker},
	{"wsl", Connectivity, wsl},
	{"tailscale", Connectivity, tailscale},
	{"firewall", Connectivity, firewall},
	{"mdns", Connectivity, mdns},
	{"stranger", Connectivity, strangers},
	{"peer", Connectivity, peers},
	{"clock", Connectivity, clocks},

	{"ollama", Services, ollama},
	{"ollama-version", Services, ollamaVersions},
	{"ollama-exposed", Services, ollamaExposed},
	{"ports", Services, ports},
	{"gpu", Services, gpus},
	{"config", Services, config},
	{"disk", Services, disks},
	{"descriptors", Services, descriptors},
	{"version", Services, versions},
	{"name", Services, names},

	{"models", Models, models},
	{"digest", Models, digests},
	{"fit", Models, fits},
}

// Run makes the checks of these scopes; the worst findings come first.
func Run(f Facts, scopes ...Scope) []Finding {
	var out []Finding
	for _, c := range checks {
		if !slices.Contains(scopes, c.scope) {
			continue
		}
		for _, finding := range c.run(f) {
			finding.Check, finding.Scope = cmp.Or(finding.Check, c.name), c.scope
			out = append(out, finding)
		}
	}
	Sort(out)
	return out
}

// Sort puts the worst findings first and leaves the order otherwise.
func Sort(all []Finding) {
	rank := func(f Finding) int { return slices.Index([]Level{Failed, Warning, Passed}, f.Level) }
	slices.SortStableFunc(all, func(a, b Finding) int { return rank(a) - rank(b) })
}

// Worst is the level of the worst finding, Passed without any.
func Worst(all []Finding) Level {
	worst := Passed
	for _, f := range all {
		switch {
		case f.Level == Failed:
			return Failed
		case f.Level == Warning:
			worst = Warning
		}
	}
	return worst
}

func passed(format string, args ...any) []Finding {
	return []Finding{{Level: Passed, Evidence: fmt.Sprintf(format, args...)}}
}

func warning(fix, why, format string, args ...any) Finding {
	return Finding{Level: Warning, Evidence: fmt.Sprintf(format, args...), Fix: fix, Why: why}
}

func failed(fix, why, format string, args ...any) Finding {
	return Finding{Level: Failed, Evidence: fmt.Sprintf(format, args...), Fix: fix, Why: why}
}
