package main

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
)

// The unit that `service install` writes is the packages' unit, but for the
// command that it runs.
func TestTheSystemUnitIsThePackages(t *testing.T) {
	packaged, err := os.ReadFile("../../deploy/systemd/kage-mesh.service")
	if err != nil {
		t.Fatal(err)
	}
	command := regexp.MustCompile(`(?m)^ExecStart=.*$`)
	if got, want := command.ReplaceAllString(systemUnit, ""), command.ReplaceAllString(string(packaged), ""); got != want {
		t.Errorf("service/kage-mesh.service and deploy/systemd/kage-mesh.service differ:\n%s\n---\n%s", got, want)
	}
	for name, unit := range map[string]string{"system": systemUnit, "user": userUnit} {
		if !strings.Contains(unit, "ExecStart={{Path | cmdEscape}}{{range Arguments}} {{. | cmd}}{{end}}\n") {
			t.Errorf("%s: no command to fill in", name)
		}
		if strings.Count(unit, "{{") != 4 {
			t.Errorf("%s: holds what is not filled in", name)
		}
	}
}

func TestThePropertyListsAreXML(t *testing.T) {
	packaged, err := os.ReadFile("../../deploy/launchd/kage-mesh.plist")
	if err != nil {
		t.Fatal(err)
	}
	filled := strings.NewReplacer("{{range Arguments}}", "", "{{end}}", "").Replace(launchdPlist)
	for name, text := range map[string]string{"deploy": string(packaged), "install": filled} {
		d := xml.NewDecoder(bytes.NewBufferString(text))
		keys := 0
		for {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if start, ok := token.(xml.StartElement); ok && start.Name.Local == "key" {
				keys++
			}
		}
		if keys < 8 {
			t.Errorf("%s: %d keys", name, keys)
		}
	}
}

// A slip in what follows -- is told before anything is installed.
func TestServiceInstallChecksItsFlags(t *testing.T) {
	r := run(t, nil, "service", "install", "--", "--vrm", "24GiB")
	if r.code != codeUsage || !strings.Contains(r.stderr, "did you mean --") {
		t.Errorf("%+v", r)
	}
	r = run(t, nil, "service", "install", "--", "--drain-grace", "soon")
	if r.code != codeUsage || !strings.Contains(r.stderr, "soon") {
		t.Errorf("%+v", r)
	}
}
