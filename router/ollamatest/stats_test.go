package ollamatest

import "testing"

func TestResetStats(t *testing.T) {
	inBubble(t, Config{Models: []Model{{Name: "m", Decode: 10}}}, func(t *testing.T, b *bubble) {
		c := b.generate(t.Context(), "m", 10)
		b.ResetStats()
		if s := b.Stats(); s.Running != 1 || s.Loads != 0 || len(s.Requests) != 0 {
			t.Errorf("after reset: %+v", s)
		}
		<-c
		if s := b.Stats(); s.Running != 0 || s.Completed != 1 {
			t.Errorf("at the end: %+v", s)
		}
	})
}

func TestInstallAndRemove(t *testing.T) {
	inBubble(t, Config{}, func(t *testing.T, b *bubble) {
		if err := b.Install(Model{Name: "a b"}); err == nil {
			t.Error("a bad name was installed")
		}
		if err := b.Install(Model{Name: "m", Template: "{{"}); err == nil {
			t.Error("a bad template was installed")
		}
		if err := b.Install(Model{Name: "m"}); err != nil {
			t.Fatal(err)
		}
		if !b.Remove("M:latest") || b.Remove("m") {
			t.Error("remove")
		}
	})
}
