package reports

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// Warnings of trials are summed up, and every writer shows them.
func TestWarningsAreShownEverywhere(t *testing.T) {
	r := fixture(t, 1, 1)
	want := []string{"the run's own doubt (fixture)", "a trial's doubt (fixture) (3 trials: seglog at w1, fsync-append at w1)"}
	if got := r.AllWarnings(); !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
	var summary bytes.Buffer
	if err := Summary(&summary, r, TerminalOptions{Width: 132}); err != nil {
		t.Fatal(err)
	}
	v, err := newView(r)
	if err != nil {
		t.Fatal(err)
	}
	page, err := v.htmlText()
	if err != nil {
		t.Fatal(err)
	}
	contract, err := JSONContract(r)
	if err != nil {
		t.Fatal(err)
	}
	var light Result
	if err := json.Unmarshal(contract, &light); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(light.Warnings, r.AllWarnings()) {
		t.Errorf("--json has %q", light.Warnings)
	}
	for name, text := range map[string]string{"terminal": summary.String(), "markdown": string(v.markdown(nil)), "HTML": strings.ReplaceAll(string(page), "&#39;", "'")} {
		for _, doubt := range []string{"the run's own doubt", "a trial's doubt"} {
			if !strings.Contains(text, doubt) {
				t.Errorf("%s does not show %q", name, doubt)
			}
		}
	}
}

func TestWarningsAreBounded(t *testing.T) {
	r := fixture(t, 1, 1)
	r.Warnings = nil
	for i := range 3 * warningsMax {
		r.Warnings = append(r.Warnings, fmt.Sprint("doubt ", i))
	}
	if got := r.AllWarnings(); len(got) != warningsMax+1 || !strings.Contains(got[warningsMax], "more warnings") {
		t.Errorf("%d warnings, the last is %q", len(got), got[len(got)-1])
	}
}

func TestTrialPlacesCountInWords(t *testing.T) {
	for places, want := range map[int]string{2: "5 trials: a, b", 3: "5 trials: a, b and 1 more place", 4: "5 trials: a, b and 2 more places"} {
		if got := trialPlaces(5, []string{"a", "b", "c", "d"}[:places]); got != want {
			t.Errorf("%d places: %q, want %q", places, got, want)
		}
	}
}
