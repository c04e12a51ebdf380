package reports

import (
	"encoding/json"
	"fmt"
)

// JSONContract is what `--json` prints: r as one JSON object without its heavy
// parts, the trials with their histograms, which are in the run's result.json.
// The trials' warnings join the run's.
func JSONContract(r *Result) ([]byte, error) {
	light := struct {
		*Result
		Trials   []Trial  `json:"trials,omitempty"` // hides Result's, and is always empty
		Warnings []string `json:"warnings,omitempty"`
	}{Result: r, Warnings: r.AllWarnings()}
	encoded, err := json.MarshalIndent(light, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode result: %w", err)
	}
	return append(encoded, '\n'), nil
}
