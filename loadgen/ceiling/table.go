package ceiling

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"
)

// Shares of the ceiling at which a target is doubted.
const (
	WarnShare = 0.7
	tableMax  = 1 << 20 // bytes of a stored table
)

// Table is what a calibration found on one machine with one binary.
type Table struct {
	Key        map[string]string `json:"key"` // what the figures depend on
	MeasuredAt time.Time         `json:"measured_at"`
	Ceilings   []Ceiling         `json:"ceilings"`
	Doubts     []string          `json:"doubts,omitempty"` // what disturbed the calibration
}

// At returns the ceiling of a point.
func (t *Table) At(p Point) (Ceiling, bool) {
	for _, c := range t.Ceilings {
		if c.Point == p {
			return c, true
		}
	}
	return Ceiling{}, false
}

// PerCPUSecond is every figure by its point's name, as a result carries it.
func (t *Table) PerCPUSecond() map[string]float64 {
	figures := make(map[string]float64, len(t.Ceilings))
	for _, c := range t.Ceilings {
		figures[c.Point.String()] = c.PerCPUSecond
	}
	return figures
}

// Judge holds a rate against what so many workers can do. Above WarnShare of
// the ceiling without pipelining it doubts; at the ceiling with the deepest
// pipeline nothing that was measured can be the server's, unless the
// calibration itself was disturbed: then that is a doubt too. Both are "" when
// all is well or nothing is known of the transport.
func (t *Table) Judge(network, codec string, ratePerS float64, workers int) (doubt, invalid string) {
	one, known := t.At(Point{network, codec, DepthOne})
	if !known {
		return "", ""
	}
	top := one.PerCPUSecond
	if deep, known := t.At(Point{network, codec, DepthDeep}); known {
		top = max(top, deep.PerCPUSecond)
	}
	if limit := top * float64(workers); ratePerS >= limit {
		reason := fmt.Sprintf("the generator is the bottleneck: %.0f requests/s is at or above its calibrated ceiling of %.0f/s over %s %s", ratePerS, limit, network, codec)
		if len(t.Doubts) > 0 {
			return reason + ", as far as a disturbed calibration tells (" + t.Doubts[0] + "): nexus calibrate makes it anew", ""
		}
		return "", reason
	}
	if limit := one.PerCPUSecond * float64(workers); ratePerS > WarnShare*limit {
		return fmt.Sprintf("the rate of %.0f/s is %.0f%% of the generator's calibrated ceiling over %s %s (%.0f/s without pipelining): its own work may show in the latencies",
			ratePerS, 100*ratePerS/limit, network, codec, limit), ""
	}
	return "", ""
}

// path is the file of a key in the user's cache folder.
func path(key map[string]string) (string, error) {
	base, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	text, err := json.Marshal(key) // sorts the keys
	if err != nil {
		return "", fmt.Errorf("name the calibration: %w", err)
	}
	sum := sha256.Sum256(text)
	return filepath.Join(base, "nexus", "ceiling-"+hex.EncodeToString(sum[:8])+".json"), nil
}

// Load returns the stored calibration of a key, nil when there is none.
func Load(key map[string]string) (*Table, error) {
	name, err := path(key)
	if err != nil {
		return nil, err
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the calibration: %w", err)
	}
	if info.Size() > tableMax {
		return nil, fmt.Errorf("read the calibration: %s is too large", name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("read the calibration: %w", err)
	}
	var t Table
	if err := json.Unmarshal(text, &t); err != nil {
		return nil, fmt.Errorf("read the calibration %s: %w (nexus calibrate makes it anew)", name, err)
	}
	if !maps.Equal(t.Key, key) {
		return nil, fmt.Errorf("read the calibration: %s is another machine's (nexus calibrate makes it anew)", name)
	}
	for _, c := range t.Ceilings {
		if !(c.PerCPUSecond > 0) {
			return nil, fmt.Errorf("read the calibration: %s says %g for %s (nexus calibrate makes it anew)", name, c.PerCPUSecond, c.Point)
		}
	}
	return &t, nil
}

// Save stores the calibration under its key and returns the file's name.
func (t *Table) Save() (string, error) {
	name, err := path(t.Key)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return "", fmt.Errorf("store the calibration: %w", err)
	}
	text, err := json.MarshalIndent(t, "", "  ")
	if err != nil {
		return "", fmt.Errorf("store the calibration: %w", err)
	}
	temp := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := os.WriteFile(temp, append(text, '\n'), 0o644); err != nil {
		return "", errors.Join(fmt.Errorf("store the calibration: %w", err), os.Remove(temp))
	}
	if err := os.Rename(temp, name); err != nil {
		return "", errors.Join(fmt.Errorf("store the calibration: %w", err), os.Remove(temp))
	}
	return name, nil
}
