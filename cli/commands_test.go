package cli

import "testing"

func TestNothingLeftCountsInWords(t *testing.T) {
	for live, want := range map[int]string{
		0: "nothing left behind", 1: "nothing left behind (1 thing belongs to a live run)", 2: "nothing left behind (2 things belong to live runs)",
	} {
		if got := nothingLeft(live); got != want {
			t.Errorf("%d: %q, want %q", live, got, want)
		}
	}
}
