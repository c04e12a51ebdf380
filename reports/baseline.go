package reports

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// BaselineVersion is the schema version of a baseline file.
const BaselineVersion = 1

// baselineBytesMax bounds what LoadBaseline reads.
const baselineBytesMax = 16 << 20

// Baseline is what the gate compares with, committed as baselines/dayNN.json.
// Its ratios travel between machines; its absolute numbers are looked at only
// where the fingerprints are equal.
type Baseline struct {
	SchemaVersion int             `json:"schema_version"`
	Day           int             `json:"day"`
	Lab           string          `json:"lab"`
	Scenario      string          `json:"scenario"`
	ScenarioHash  string          `json:"scenario_sha256"`
	Mode          string          `json:"mode"`
	Reason        string          `json:"reason"` // why this became the baseline
	CreatedAt     time.Time       `json:"created_at"`
	Environment   Environment     `json:"environment"`
	Series        []BaselineEntry `json:"series"`
}

// BaselineEntry is one measure of the subject at one point: over a baseline
// contender, paired by round, or absolute when Against is empty.
type BaselineEntry struct {
	Subject string    `json:"subject"`
	Against string    `json:"against,omitempty"`
	Point   string    `json:"point"`
	Metric  string    `json:"metric"`
	Higher  bool      `json:"higher_is_better"`
	Values  []float64 `json:"values"` // one per trial or pair
}

// id names what is gated, for people and for JUnit.
func (e *BaselineEntry) id() string {
	if e.Against == "" {
		return fmt.Sprintf("%s %s at %s", e.Subject, e.Metric, e.Point)
	}
	return fmt.Sprintf("%s/%s %s at %s", e.Subject, e.Against, e.Metric, e.Point)
}

// BaselinePath is where the baseline of a day lies below the repository's root.
func BaselinePath(root string, day int) string {
	return filepath.Join(root, "reports", "baselines", fmt.Sprintf("day%02d.json", day))
}

// NewBaseline makes a baseline of alike, trusted runs. Reason must say why.
func NewBaseline(runs []*Result, reason string, now time.Time) (*Baseline, error) {
	if strings.TrimSpace(reason) == "" {
		return nil, errors.New("a new baseline needs a reason: say why the old one no longer holds")
	}
	if err := alike(runs); err != nil {
		return nil, err
	}
	for _, r := range runs {
		if len(r.Faults) > 0 {
			return nil, fmt.Errorf("a run with planted faults (%v) can't be a baseline", r.Faults)
		}
	}
	r := runs[0]
	b := &Baseline{SchemaVersion: BaselineVersion, Day: r.Day, Lab: r.Lab, Scenario: r.Scenario, ScenarioHash: r.ScenarioHash, Mode: r.Mode,
		Reason: strings.TrimSpace(reason), CreatedAt: now.UTC().Truncate(time.Second), Environment: r.Environment}
	v, err := pooledView(runs)
	if err != nil {
		return nil, err
	}
	for _, point := range v.headlines() {
		closed := v.sweep[v.pointIndex(point)].closed
		for _, m := range measures {
			if m.tells(closed) {
				b.Series = append(b.Series, seriesOf(runs, point, m)...)
			}
		}
	}
	return b, b.validate()
}

// seriesOf are the subject's values of one measure: absolute and against each
// baseline contender.
func seriesOf(runs []*Result, point string, m measure) []BaselineEntry {
	var all []BaselineEntry
	for _, subject := range runs[0].Contenders {
		if subject.Role != RoleSubject {
			continue
		}
		entry := BaselineEntry{Subject: subject.Name, Point: point, Metric: m.name, Higher: m.higher}
		if entry.Values = sample(runs, place{subject.Name, point}, m); len(entry.Values) > 0 {
			all = append(all, entry)
		}
		for _, against := range runs[0].Contenders {
			if against.Role != RoleBaseline {
				continue
			}
			entry.Against = against.Name
			if entry.Values = pairedRatios(runs, subject.Name, against.Name, point, m); len(entry.Values) > 0 {
				all = append(all, entry)
			}
		}
	}
	return all
}

// alike checks that runs can be pooled.
func alike(runs []*Result) error {
	if len(runs) == 0 {
		return errors.New("no runs")
	}
	for _, r := range runs {
		if err := untrusted(r); err != nil {
			return err
		}
		if d := append(scenarioDifferences(runs[0], r), environmentDifferences(&runs[0].Environment, &r.Environment)...); len(d) > 0 {
			return &UnlikeError{d}
		}
	}
	return nil
}

// validate refuses whatever the gate could pass by mistake.
func (b *Baseline) validate() error {
	if b.SchemaVersion != BaselineVersion {
		return fmt.Errorf("baseline: schema_version is %d, want %d", b.SchemaVersion, BaselineVersion)
	}
	if len(b.Series) == 0 {
		return errors.New("baseline: it holds no series: an empty baseline guards nothing")
	}
	if b.ScenarioHash == "" || b.Reason == "" {
		return errors.New("baseline: no scenario hash or no reason")
	}
	for i := range b.Series {
		e := &b.Series[i]
		if len(e.Values) < 2 {
			return fmt.Errorf("baseline: %s has %d values, want at least 2", e.id(), len(e.Values))
		}
		if m, known := measureNamed(e.Metric); !known || m.higher != e.Higher {
			return fmt.Errorf("baseline: %s: no such metric with that direction", e.id())
		}
		for _, v := range e.Values {
			if math.IsNaN(v) || math.IsInf(v, 0) || v <= 0 {
				return fmt.Errorf("baseline: %s has the value %g", e.id(), v)
			}
		}
	}
	return nil
}

// UpdateBaseline writes the baseline of the runs to path, with the reason.
func UpdateBaseline(path string, runs []*Result, reason string) error {
	b, err := NewBaseline(runs, reason, time.Now())
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	encoded, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("update %s: %w", path, err)
	}
	return writeFile(path, append(encoded, '\n'))
}

// LoadBaseline reads a baseline file as strictly as Load reads a result.
func LoadBaseline(path string) (*Baseline, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("load baseline: %w (write one with `nexus gate --update --reason ...`)", err)
	}
	if info.Size() > baselineBytesMax {
		return nil, fmt.Errorf("load baseline %s: %d bytes: not a baseline", path, info.Size())
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load baseline: %w", err)
	}
	b, err := parseBaseline(raw)
	if err != nil {
		return nil, fmt.Errorf("load baseline %s: %w", path, err)
	}
	return b, nil
}

func parseBaseline(raw []byte) (*Baseline, error) {
	var b Baseline
	if err := decodeStrict(raw, BaselineVersion, &b); err != nil {
		return nil, err
	}
	return &b, b.validate()
}
