//go:build linux

package lab

import (
	"strings"
	"testing"
)

func TestOwner(t *testing.T) {
	for _, c := range []struct {
		name string
		pid  int
		ok   bool
	}{
		{"kagelab-4242-1-n3", 4242, true},
		{"kagelab-4242-2-switch", 4242, true},
		{"kagelab--1-n1", 0, false},
		{"kagelab-1-1-n1", 1, false},
		{"home", 0, false},
		{"kagelab-x-1", 0, false},
	} {
		if pid, ok := owner(c.name); ok != c.ok || ok && pid != c.pid {
			t.Errorf("owner(%q) = %d, %v", c.name, pid, ok)
		}
	}
}

func TestAddresses(t *testing.T) {
	for i, want := range map[int]string{
		0:   "10.77.255.254 fd77::fffe 10.78.255.254",
		1:   "10.77.0.1 fd77::1 10.78.0.1",
		250: "10.77.0.250 fd77::fa 10.78.0.250",
		300: "10.77.1.44 fd77::12c 10.78.1.44",
	} {
		if got := addr4(i).String() + " " + addr6(i).String() + " " + addrSecond(i).String(); got != want {
			t.Errorf("node %d: %s, want %s", i, got, want)
		}
	}
}

func TestLiteral(t *testing.T) {
	for in, want := range map[string]string{
		"10.77.0.1:80":    "10.77.0.1:80",
		"[fd77::1]:80":    "[fd77::1]:80",
		"[fe80::1%e0]:80": "[fe80::1%e0]:80",
		"localhost:80":    "127.0.0.1:80",
		":80":             ":80",
		"example.com:80":  "",
		"10.77.0.1":       "",
	} {
		got, err := literal(in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("literal(%q) = %q, %v", in, got, err)
		}
	}
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		name   string
		faults faults
		want   []string // the rules, in order
	}{
		{"none", faults{}, nil},
		{"one way", faults{cut: map[[2]int]bool{{1, 2}: true}}, []string{
			`iifname { "p1", "t1" } oifname { "p2", "t2" } drop`,
		}},
		{"hole", faults{hole: map[int]bool{2: true}}, []string{
			`iifname { "p2", "t2" }  drop`, `oifname { "p2", "t2" }  drop`,
		}},
		{"loss", faults{loss: map[int]float64{1: 0.25, 2: 0}}, []string{
			`iifname { "p1", "t1" } numgen random mod 10000 < 25 drop`,
			`oifname { "p1", "t1" } numgen random mod 10000 < 25 drop`,
		}},
		{"split puts the others and the guest together", faults{sides: map[int]int{1: 1}}, []string{
			`iifname { "p0", "t0" } oifname { "p1", "t1" } drop`,
			`iifname { "p1", "t1" } oifname { "p0", "t0" } drop`,
			`iifname { "p1", "t1" } oifname { "p2", "t2" } drop`,
			`iifname { "p2", "t2" } oifname { "p1", "t1" } drop`,
		}},
		{"without a node its pairs go too", faults{
			cut:  map[[2]int]bool{{1, 2}: true, {2, 0}: true},
			hole: map[int]bool{1: true},
		}.without(1), []string{
			`iifname { "p2", "t2" } oifname { "p0", "t0" } drop`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for line := range strings.Lines(c.faults.rules(2)) {
				if line = strings.TrimSpace(line); strings.HasSuffix(line, " drop") {
					got = append(got, line)
				}
			}
			if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
				t.Errorf("rules:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}
