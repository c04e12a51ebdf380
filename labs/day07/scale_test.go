package day07

import (
	"strings"
	"testing"
)

// One repetition has no median to speak of.
func TestScaleClaimCountsItsRounds(t *testing.T) {
	for rounds, want := range map[int]string{1: "(one repetition)", 3: "(medians of 3 repetitions)"} {
		if got := scaleClaim(5, make([]scaleRound, rounds)).Evidence; !strings.HasSuffix(got, want) {
			t.Errorf("%d rounds: %q, want it to end in %q", rounds, got, want)
		}
	}
}
