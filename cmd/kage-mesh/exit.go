package main

import "fmt"

// Exit codes, as `kage-mesh --help` lists them.
const (
	codeOK         = 0
	codeFailure    = 1 // a general failure: port in use, name clash, refused
	codeUsage      = 2 // a flag, argument or configuration that makes no sense
	codeNotRunning = 3 // no node runs on this machine
	codeDegraded   = 4 // status --check: the mesh is not healthy; models diff: not at parity; doctor: warnings
	codeKey        = 5 // the mesh key is wrong or missing
)

const exitCodes = `EXIT CODES:
   0  done
   1  failed: port in use, name taken, refused; doctor: something does not work
   2  usage: unknown flag, bad value, bad configuration
   3  no node runs here
   4  status --check: the mesh is degraded or down; models diff: nodes differ; doctor: warnings
   5  mesh key wrong or missing
   130, 143  stopped by a second SIGINT, SIGTERM
`

// failure is an error for people: one line of cause, one line of fix.
type failure struct {
	code  int
	cause error
	fix   string
}

func (f *failure) Error() string { return f.cause.Error() }
func (f *failure) Unwrap() error { return f.cause }

func usage(fix, format string, args ...any) error {
	return &failure{code: codeUsage, cause: fmt.Errorf(format, args...), fix: fix}
}
