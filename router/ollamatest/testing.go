package ollamatest

// TB is the part of testing.TB that [Start] needs. It is an interface here so
// that programs which embed the fake do not link package testing.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(func())
}

// Start serves a new fake on a loopback port and closes it when the test ends.
func Start(t TB, c Config) *Server {
	t.Helper()
	s := New(c)
	if err := s.Listen("127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}
