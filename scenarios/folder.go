package scenarios

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
)

// Files of a run's folder. result.json is the only one that others read; the
// rest is what --resume needs. Trials are kept one file each, because writing
// the whole, growing result after each of hundreds of trials would load the
// very disk that is being measured.
const (
	fileResult = "result.json"
	fileRun    = "run.json"
	dirTrials  = "trials"
	dirChecks  = "checks"
	dirStderr  = "stderr"
)

// runRecord is run.json: what a run is, so that only the same run goes on.
type runRecord struct {
	SchemaVersion int                 `json:"schema_version"`
	Scenario      *Scenario           `json:"scenario"`
	ScenarioHash  string              `json:"scenario_sha256"`
	Path          string              `json:"path"`
	Sets          []string            `json:"sets"`
	BinaryHash    string              `json:"binary_sha256"`
	Environment   reports.Environment `json:"environment"`
	Probes        bool                `json:"probes"`  // kernel probes were on
	Cgroups       bool                `json:"cgroups"` // each contender had its own
	Command       string              `json:"command"`
	StartedAt     time.Time           `json:"started_at"`
}

// slotRecord is one finished trial with all its attempts; the last one counts.
type slotRecord struct {
	Contender string          `json:"contender"`
	Point     string          `json:"point"`
	Round     int             `json:"round"`
	Attempts  []reports.Trial `json:"attempts"`
}

// checkRecord is one finished check.
type checkRecord struct {
	Name    string                `json:"name"`
	Metrics []reports.Metric      `json:"metrics"`
	Oracle  reports.OracleResult  `json:"oracle"`
	Claims  []reports.ClaimResult `json:"claims"`
	Error   string                `json:"error"`
}

// folder is a run's own folder, locked while the run goes on.
type folder struct {
	path string
	lock *os.File
}

// newFolder makes runs/<lab>-<time>-<mode>, with -2, -3, … behind it when runs
// start in the same second: a folder that exists is never used again.
func newFolder(runs, lab, mode string, now time.Time) (*folder, error) {
	hint := "--out names another folder for the runs"
	if err := os.MkdirAll(runs, 0o755); err != nil {
		return nil, environmentError(hint, "make the folder for the runs: %w", err)
	}
	base := fmt.Sprintf("%s-%s-%s", lab, now.Format("20060102-150405"), mode)
	const triesMax = 1000
	for try := 1; try <= triesMax; try++ {
		name := base
		if try > 1 {
			name = fmt.Sprintf("%s-%d", base, try)
		}
		path := filepath.Join(runs, name)
		err := os.Mkdir(path, 0o755)
		if errors.Is(err, os.ErrExist) {
			continue
		}
		if err != nil {
			return nil, environmentError(hint, "make the run's folder: %w", err)
		}
		for _, sub := range []string{dirTrials, dirChecks, dirStderr} {
			if err := os.Mkdir(filepath.Join(path, sub), 0o755); err != nil {
				return nil, environmentError(hint, "make the run's folder: %w", err)
			}
		}
		return lockFolder(path)
	}
	return nil, environmentError(hint, "make the run's folder: %s and its %d successors exist", base, triesMax)
}

// openFolder opens the folder of an interrupted run.
func openFolder(path string) (*folder, error) {
	if _, err := os.Stat(filepath.Join(path, fileRun)); err != nil {
		return nil, usageError("--resume takes the folder that the interrupted run printed", "resume: %w", err)
	}
	return lockFolder(path)
}

func lockFolder(path string) (*folder, error) {
	lock, err := os.Open(path)
	if err != nil {
		return nil, environmentError("", "open the run's folder: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(usageError("wait for it, or interrupt it", "another process runs in %s: %w", path, err), lock.Close())
	}
	return &folder{path: path, lock: lock}, nil
}

func (f *folder) close() error { return f.lock.Close() }

// writeJSON replaces a file in one step. It is not synced: a file that a power
// cut leaves broken is recognised, and its trial repeated.
func (f *folder) writeJSON(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	path := filepath.Join(f.path, name)
	if err := os.WriteFile(path+".tmp", append(text, '\n'), 0o644); err != nil {
		return environmentError("free space in the folder of the runs and go on with --resume", "keep %s: %w", name, err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		return environmentError("", "keep %s: %w", name, err)
	}
	return nil
}

// readJSON reports whether the file is there and whole.
func (f *folder) readJSON(name string, value any) bool {
	text, err := os.ReadFile(filepath.Join(f.path, name))
	return err == nil && json.Unmarshal(text, value) == nil
}

func trialFile(s slot) string { return filepath.Join(dirTrials, fmt.Sprintf("%05d.json", s.index)) }

func checkFile(name string) string { return filepath.Join(dirChecks, name+".json") }

// finished returns the record of a slot that an earlier run has done.
func (f *folder) finished(s slot) (slotRecord, bool) {
	var record slotRecord
	whole := f.readJSON(trialFile(s), &record) && len(record.Attempts) > 0 &&
		record.Contender == s.contender && record.Point == pointID(s) && record.Round == s.round
	return record, whole
}

// LoadResumed returns the scenario of the interrupted run in path, as it was
// effective then.
func LoadResumed(path string) (*Scenario, error) {
	record, err := readRunRecord(path)
	if err != nil {
		return nil, err
	}
	return record.Scenario, nil
}

func readRunRecord(path string) (*runRecord, error) {
	text, err := os.ReadFile(filepath.Join(path, fileRun))
	if err != nil {
		return nil, usageError("--resume takes the folder that the interrupted run printed", "resume: %w", err)
	}
	var record runRecord
	if err := json.Unmarshal(text, &record); err != nil {
		return nil, usageError("start the run anew", "resume: read %s: %w", fileRun, err)
	}
	if record.SchemaVersion != reports.SchemaVersion || record.Scenario == nil {
		return nil, usageError("start the run anew", "resume: %s has version %d, this program writes %d", fileRun, record.SchemaVersion, reports.SchemaVersion)
	}
	s := record.Scenario
	s.Path, s.Sets, s.Hash = record.Path, record.Sets, record.ScenarioHash
	hash, err := s.hash()
	if err != nil || hash != s.Hash {
		return nil, usageError("start the run anew", "resume: the scenario in %s is not the one that was run (%w)", fileRun, err)
	}
	return &record, nil
}

// sameRun refuses to go on with a run whose trials would not be comparable.
func (r *runRecord) sameRun(now *runRecord) error {
	var different []string
	if r.ScenarioHash != now.ScenarioHash {
		different = append(different, "the scenario")
	}
	if r.BinaryHash != now.BinaryHash {
		different = append(different, "the nexus binary")
	}
	then, here := reflect.ValueOf(r.Environment), reflect.ValueOf(now.Environment)
	for i := range then.NumField() {
		if name := then.Type().Field(i).Name; name == "Tools" || name == "GeneratorCeilings" {
			continue // what is installed or known beside the project has no part in the trials
		}
		// An absent map and an empty one are the same thing.
		a, b := then.Field(i), here.Field(i)
		if a.Kind() == reflect.Map && a.Len() == 0 && b.Len() == 0 {
			continue
		}
		if !reflect.DeepEqual(a.Interface(), b.Interface()) {
			name, _, _ := strings.Cut(then.Type().Field(i).Tag.Get("json"), ",")
			different = append(different, fmt.Sprintf("the environment's %s (%v, now %v)", name, a.Interface(), b.Interface()))
		}
	}
	if r.Probes != now.Probes {
		different = append(different, fmt.Sprintf("the kernel probes (%s, now %s)", onOff(r.Probes), onOff(now.Probes)))
	}
	if r.Cgroups != now.Cgroups {
		different = append(different, fmt.Sprintf("the contenders' cgroups (%s, now %s)", onOff(r.Cgroups), onOff(now.Cgroups)))
	}
	if len(different) == 0 {
		return nil
	}
	return usageError("start the run anew: its trials would not be comparable", "resume: since the run began %s changed", strings.Join(different, ", "))
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// hashFile returns the SHA-256 of a file, in hexadecimal.
func hashFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", fmt.Errorf("hash %s: %w", path, err)
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}
