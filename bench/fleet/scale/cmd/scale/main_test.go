package main

import (
	"reflect"
	"testing"

	"github.com/AI-Prompt-Ops-Kitchen/kage-mesh/bench/fleet/scale"
)

func TestParse(t *testing.T) {
	got, err := parse("32, 300/8,500/10@50,64@5")
	want := []of{
		{members: 32},
		{300, scale.Options{Slow: 8}},
		{500, scale.Options{Slow: 10, Rate: 50}},
		{64, scale.Options{Rate: 5}},
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"", "x", "32,", "0", "-4", "300/", "300/0", "300@", "300@x", "300@5/8"} {
		if got, err := parse(bad); err == nil {
			t.Errorf("%q is %+v", bad, got)
		}
	}
}
