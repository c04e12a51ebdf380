package reports

import (
	"bytes"
	"strings"
	"testing"
)

// Three runs make one page: a table for each of the others, every curve with
// three lines.
func TestComparisonsOfThreeRunsAreOnePage(t *testing.T) {
	runs := []*Result{fixture(t, 1, 1), fixture(t, 2, 1), fixture(t, 3, 1)}
	var all Comparisons
	for _, other := range runs[1:] {
		c, err := Compare(runs[:1], []*Result{other}, CompareOptions{})
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	figures, err := all.overlays()
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, f := range figures {
		kind, _, _ := strings.Cut(f.Title, " of ")
		kinds[kind] = true
		if len(f.Lines) != 3 || f.Lines[0].Name != "A" || f.Lines[2].Name != "C" {
			t.Errorf("%s has %d lines", f.Title, len(f.Lines))
		}
	}
	if len(kinds) != 3 {
		t.Errorf("kinds of curves: %v, want percentiles, distributions and latency against throughput", kinds)
	}
	page, err := all.HTML()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"What changed from A to B", "What changed from A to C", "C / A", "C: "} {
		if !bytes.Contains(page, []byte(want)) || !bytes.Contains(all.Markdown(), []byte(want)) {
			t.Errorf("page or Markdown lacks %q", want)
		}
	}
}

// What can't be told says how many trials would tell.
func TestCantTellSaysHowManyTrials(t *testing.T) {
	c, err := Compare([]*Result{fixture(t, 1, 1)}, []*Result{fixture(t, 2, 1)}, CompareOptions{MinEffect: 0.01})
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	for _, change := range c.Changes {
		if change.Verdict == CantTell && change.TrialsNeeded > 0 {
			told++
		}
		if change.Verdict != CantTell && change.TrialsNeeded != 0 {
			t.Errorf("%s %s: %s and yet needs %d trials", change.Contender, change.Metric, change.Verdict, change.TrialsNeeded)
		}
	}
	if told == 0 {
		t.Error("no row says how many trials it needs")
	}
}
