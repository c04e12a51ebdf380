package reports

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/reports/stats"
)

// HistoryVersion is the version of a history's lines.
const HistoryVersion = 1

// Bounds of a history file: when it outgrows historyBytesMax, its older half goes.
const (
	historyBytesMax     = 8 << 20
	historyLineBytesMax = 1 << 20
)

// HistoryEntry is one run in a history: one line of JSON.
type HistoryEntry struct {
	Version      int             `json:"version"`
	StartedAt    time.Time       `json:"started_at"`
	NexusVersion string          `json:"nexus_version"`
	Day          int             `json:"day"`
	Lab          string          `json:"lab"`
	Scenario     string          `json:"scenario"`
	ScenarioHash string          `json:"scenario_sha256"`
	Mode         string          `json:"mode"`
	Machine      string          `json:"machine"` // of the fields that absolute numbers depend on
	Series       []HistorySeries `json:"series"`
}

// HistorySeries is the median of one measure of one run, over a contender of
// the same run or absolute when Against is empty.
type HistorySeries struct {
	Subject string  `json:"subject"`
	Against string  `json:"against,omitempty"`
	Point   string  `json:"point"`
	Metric  string  `json:"metric"`
	Higher  bool    `json:"higher_is_better"`
	Value   float64 `json:"value"`
}

// NewHistoryEntry sums a run up. A run that is invalid, wrong or had faults
// planted has no place in a history.
func NewHistoryEntry(r *Result) (*HistoryEntry, error) {
	if ratios, planned := referenceTrials(r); planned {
		return nil, fmt.Errorf("history: a run of two builds (%d trials of the reference) has no numbers of its own", ratios)
	}
	b, err := NewBaseline([]*Result{r}, "history", r.StartedAt)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	machine, err := json.Marshal(r.Environment.Fingerprint()) // map keys are sorted
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	e := &HistoryEntry{Version: HistoryVersion, StartedAt: r.StartedAt.UTC(), NexusVersion: r.Environment.NexusVersion, Day: r.Day, Lab: r.Lab,
		Scenario: r.Scenario, ScenarioHash: r.ScenarioHash, Mode: r.Mode, Machine: string(machine)}
	for _, s := range b.Series {
		e.Series = append(e.Series, HistorySeries{s.Subject, s.Against, s.Point, s.Metric, s.Higher, stats.Median(s.Values)})
	}
	return e, nil
}

// HasReference says whether r is a run of two builds.
func HasReference(r *Result) bool {
	_, planned := referenceTrials(r)
	return planned
}

// referenceTrials counts the trials of a reference build.
func referenceTrials(r *Result) (n int, any bool) {
	for i := range r.Trials {
		if _, reference := r.Trials[i].Sweep["reference"]; reference {
			n++
		}
	}
	return n, n > 0
}

func (e *HistoryEntry) sameRun(o *HistoryEntry) bool {
	return e.StartedAt.Equal(o.StartedAt) && e.ScenarioHash == o.ScenarioHash && e.Mode == o.Mode
}

// AppendHistory adds entries that the file does not hold yet and says how many
// those were. Processes may append at the same time: the file is locked. A line
// is there whole or, after a crash, as a broken last one that readers and the
// next append pass over.
func AppendHistory(path string, entries ...*HistoryEntry) (added int, err error) {
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return 0, fmt.Errorf("append to history: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		return 0, fmt.Errorf("append to history: lock %s: %w", path, err)
	}
	known, _, err := readHistory(file)
	if err != nil {
		return 0, fmt.Errorf("append to history %s: %w", path, err)
	}
	text, added, err := newLines(known, entries)
	if err != nil || added == 0 {
		return 0, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return 0, fmt.Errorf("append to history: %w", err)
	}
	if size+int64(len(text)) > historyBytesMax {
		if size, err = halve(file, known); err != nil {
			return 0, fmt.Errorf("append to history %s: drop its older half: %w", path, err)
		}
	}
	if size > 0 {
		last := make([]byte, 1)
		if _, err := file.ReadAt(last, size-1); err != nil {
			return 0, fmt.Errorf("append to history: %w", err)
		}
		if last[0] != '\n' {
			text = append([]byte{'\n'}, text...)
		}
	}
	if _, err := file.Write(text); err != nil {
		return 0, fmt.Errorf("append to history: %w", err)
	}
	if err := file.Sync(); err != nil {
		return 0, fmt.Errorf("append to history: %w", err)
	}
	return added, nil
}

func newLines(known, entries []*HistoryEntry) (text []byte, added int, err error) {
	for _, e := range entries {
		if slices.ContainsFunc(known, e.sameRun) {
			continue
		}
		line, err := json.Marshal(e)
		if err != nil {
			return nil, 0, fmt.Errorf("append to history: %w", err)
		}
		text = append(append(text, line...), '\n')
		known = append(known, e)
		added++
	}
	return text, added, nil
}

// halve keeps the newer half. It writes in place, under the lock: a crash in
// between costs older runs, which runs/ still has.
func halve(file *os.File, known []*HistoryEntry) (size int64, err error) {
	text, _, err := newLines(nil, known[len(known)/2:])
	if err != nil {
		return 0, err
	}
	if err := file.Truncate(0); err != nil {
		return 0, err
	}
	_, err = file.Write(text) // O_APPEND: at the new end
	return int64(len(text)), err
}

// LoadHistory reads a history in order of time. broken counts lines that are no
// entry, as a crash leaves one; a version that this program doesn't know is an
// error.
func LoadHistory(path string) (entries []*HistoryEntry, broken int, err error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, 0, fmt.Errorf("load history: %w (runs append to it; `nexus trend --import runs/*` makes it from earlier ones)", err)
	}
	defer file.Close()
	entries, broken, err = readHistory(file)
	if err != nil {
		return nil, 0, fmt.Errorf("load history %s: %w", path, err)
	}
	slices.SortStableFunc(entries, func(a, b *HistoryEntry) int { return a.StartedAt.Compare(b.StartedAt) })
	return entries, broken, nil
}

func readHistory(file *os.File) (entries []*HistoryEntry, broken int, err error) {
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, 0, err
	}
	lines := bufio.NewScanner(io.LimitReader(file, 2*historyBytesMax))
	lines.Buffer(make([]byte, 64<<10), historyLineBytesMax)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var e HistoryEntry
		if json.Unmarshal(lines.Bytes(), &e) != nil || e.Version == 0 {
			broken++
			continue
		}
		if e.Version != HistoryVersion {
			return nil, 0, fmt.Errorf("a line has version %d, want %d", e.Version, HistoryVersion)
		}
		entries = append(entries, &e)
	}
	return entries, broken, lines.Err()
}
