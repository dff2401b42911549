// Package need has the one rule for tests that want something of the machine:
// root, a tool, a real Ollama. On a person's machine such a test is skipped
// with one line that says what is missing; with CI=true it fails, because
// there everything must be installed and a skip would hide that it is not.
package need

import (
	"os"
	"testing"
)

// Missing ends the test because of what is missing. what is one line that
// names the thing and how to get it.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (with CI=true this fails instead of being skipped)", what)
	}
	t.Skip(what)
}

// NotShort skips the test under -short, with which `make race` runs what needs
// nothing; `make e2e` runs the rest.
func NotShort(t testing.TB, what string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("%s, not with -short", what)
	}
}
