package reports

import (
	"os"
	"testing"
)

// The default design of the gate keeps its promise on recordings that it was not
// chosen on.
func TestHeldOutRecordings(t *testing.T) {
	text, err := os.ReadFile("gaterecordings/day07-heldout.json")
	if err != nil {
		t.Fatal(err)
	}
	g, err := ParseGateRecordings(text)
	if err != nil {
		t.Fatal(err)
	}
	const comparisons = 60
	design := GateTrial{Reference: true, Trials: ReferencePairs, Alpha: ReferenceAlpha, MinEffect: ReferenceMinEffect, Comparisons: comparisons}
	same, err := g.Measure(design, 1)
	if err != nil {
		t.Fatal(err)
	}
	design.Slowdown = 0.05
	slower, err := g.Measure(design, 2)
	if err != nil {
		t.Fatal(err)
	}
	if same.Red > 1 || slower.Red < comparisons*95/100 {
		t.Errorf("red: %d of %d without a change, %d of %d slower by 5%%", same.Red, comparisons, slower.Red, comparisons)
	}
}
