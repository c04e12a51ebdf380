package scenarios

import (
	"bytes"
	"fmt"

	"github.com/goccy/go-yaml"

	"github.com/nexuscore-labs/nexus/reports"
)

// Verdicts on a claim.
const (
	ClaimHeld          = "held"
	ClaimRefuted       = "refuted"
	ClaimInconclusive  = "inconclusive"
	ClaimNotMeasurable = "not_measurable"
)

// Claim is one statement of a lesson, as claims.yaml has it.
type Claim struct {
	ID            string `yaml:"id" json:"id"`
	Statement     string `yaml:"statement" json:"statement"`
	Rule          string `yaml:"rule" json:"rule,omitempty"`                     // what the measurement must show
	Test          string `yaml:"test" json:"test,omitempty"`                     // the check that measures it
	NotMeasurable string `yaml:"not_measurable" json:"not_measurable,omitempty"` // why nothing can
	Needs         string `yaml:"needs" json:"needs,omitempty"`                   // capability that would make it measurable
}

// Claims reads the lab's ledger and checks it: ids are unique, and every claim
// has either a rule and one of the lab's checks, or a reason why it has none.
// A lab without a ledger has no claims.
func (l *Lab) Claims() ([]Claim, error) {
	if len(l.ClaimsYAML) == 0 {
		return nil, nil
	}
	var file struct {
		Claims []Claim `yaml:"claims"`
	}
	if err := yaml.NewDecoder(bytes.NewReader(l.ClaimsYAML), yaml.Strict()).Decode(&file); err != nil {
		return nil, fmt.Errorf("read the claims of day %d: %w", l.Day, err)
	}
	checks := map[string]bool{}
	for i := range l.Checks {
		checks[l.Checks[i].Name] = true
	}
	seen := map[string]bool{}
	for _, c := range file.Claims {
		switch {
		case c.ID == "" || c.Statement == "" || seen[c.ID]:
			return nil, fmt.Errorf("claims of day %d: claim %q: a claim needs a statement and an id of its own", l.Day, c.ID)
		case c.NotMeasurable != "" && c.Test != "":
			return nil, fmt.Errorf("claims of day %d: claim %s is not measurable and has a test", l.Day, c.ID)
		case c.NotMeasurable == "" && (c.Rule == "" || !checks[c.Test]):
			return nil, fmt.Errorf("claims of day %d: claim %s needs a rule and one of the lab's checks, not %q", l.Day, c.ID, c.Test)
		}
		seen[c.ID] = true
	}
	return file.Claims, nil
}

// ledger gives every claim of the lab its verdict. What no check said anything
// about is inconclusive, never left out.
func ledger(lab *Lab, found []reports.ClaimResult, repeat string) ([]reports.ClaimResult, error) {
	claims, err := lab.Claims()
	if err != nil {
		return nil, err
	}
	byID := map[string]reports.ClaimResult{}
	for _, f := range found {
		byID[f.ID] = f
	}
	out := make([]reports.ClaimResult, 0, len(claims))
	for _, c := range claims {
		result, judged := byID[c.ID]
		delete(byID, c.ID)
		switch {
		case c.NotMeasurable != "":
			result = reports.ClaimResult{Verdict: ClaimNotMeasurable, Evidence: c.NotMeasurable}
		case !judged:
			result = reports.ClaimResult{Verdict: ClaimInconclusive, Evidence: "the check " + c.Test + " gave no verdict in this run"}
		}
		result.ID, result.Statement = c.ID, c.Statement
		if result.Command == "" && c.Test != "" {
			result.Command = repeat + "  # check " + c.Test
		}
		out = append(out, result)
	}
	for id := range byID {
		return nil, fmt.Errorf("a check of day %d judged claim %q, which claims.yaml does not have", lab.Day, id)
	}
	return out, nil
}
