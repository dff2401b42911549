package discovery

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

// roles are what the test binary can be started as instead of running tests.
var roles = map[string]func() int{}

const roleEnv = "DISCOVERY_TEST_ROLE"

func TestMain(m *testing.M) {
	if role := roles[os.Getenv(roleEnv)]; role != nil {
		os.Exit(role())
	}
	goleak.VerifyTestMain(m)
}
