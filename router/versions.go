package router

import (
	"slices"
	"strconv"
	"strings"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/mesh"
)

// versionInfo is the answer of /api/version. Nodes is there with ?verbose.
type versionInfo struct {
	Version string            `json:"version"`
	Nodes   map[string]string `json:"nodes,omitempty"`
}

func versionsOf(v *mesh.View, verbose bool) versionInfo {
	info := versionInfo{Version: lowestVersion(v)}
	if !verbose {
		return info
	}
	info.Nodes = make(map[string]string)
	for _, m := range v.Members() {
		if m.Status == mesh.Alive {
			info.Nodes[m.Name] = m.Info.Ollama
		}
	}
	return info
}

// knowledge is whether a node's Ollama has a route.
type knowledge int

const (
	tooOld knowledge = iota
	unsaid           // its version says nothing
	has
)

// unsaidVersion is what an Ollama built from source calls itself.
const unsaidVersion = "0.0.0"

// knows reports whether m's Ollama has a route that exists since a version, ""
// for always.
func knows(m *mesh.Member, since string) knowledge {
	switch version := m.Info.Ollama; {
	case since == "":
		return has
	case version == "", version == unsaidVersion:
		return unsaid
	case compareVersions(version, since) < 0:
		return tooOld
	}
	return has
}

// lowestVersion is the oldest Ollama of the mesh: what a client may count on
// at every node. "0.0.0" when there is none, as of a build without version.
func lowestVersion(v *mesh.View) string {
	lowest := ""
	for _, m := range v.Members() {
		if m.Status != mesh.Alive || m.Info.Ollama == "" {
			continue
		}
		if lowest == "" || compareVersions(m.Info.Ollama, lowest) < 0 {
			lowest = m.Info.Ollama
		}
	}
	if lowest == "" {
		return "0.0.0"
	}
	return lowest
}

// compareVersions orders dotted numbers; what follows them ("-rc1") counts
// only among equals, and a release comes after its candidates.
func compareVersions(a, b string) int {
	an, arest := versionNumbers(a)
	bn, brest := versionNumbers(b)
	if c := slices.Compare(an[:], bn[:]); c != 0 {
		return c
	}
	switch {
	case arest == brest:
		return 0
	case arest == "":
		return 1
	case brest == "":
		return -1
	}
	return strings.Compare(arest, brest)
}

func versionNumbers(s string) (n [3]int, rest string) {
	s = strings.TrimPrefix(s, "v")
	if i := strings.IndexAny(s, "-+"); i >= 0 {
		s, rest = s[:i], s[i:]
	}
	for i, part := range strings.SplitN(s, ".", 3) {
		n[i], _ = strconv.Atoi(part) // not a number counts as 0
	}
	return n, rest
}
