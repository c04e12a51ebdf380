package scenarios

import (
	"fmt"
	"io"
	"os"
	"reflect"
)

// Load reads the scenario file at path and makes it effective for mode, after
// putting in the overrides (path=value). Every complaint about the file or an
// override is in the returned Complaints, which carry ExitUsage.
func Load(path, mode string, sets []string) (*Scenario, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, usageError("`nexus list` shows the labs; a scenario is a file such as scenarios/day07/writers.yaml", "read scenario: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, fileBytesMax+1))
	if err != nil {
		return nil, usageError("", "read scenario %s: %w", path, err)
	}
	return Parse(path, text, mode, sets)
}

// Parse is Load for text that has been read already; path is what complaints
// call it.
func Parse(path string, text []byte, mode string, sets []string) (*Scenario, error) {
	if mode != ModeQuick && mode != ModeFull {
		return nil, usageError("", "mode %q is unknown: quick or full", mode)
	}
	complaints := &book{}
	root := parseTree(path, text, complaints)
	if root == nil {
		return nil, complaints.err()
	}
	for _, set := range sets {
		override(root, set, complaints)
	}
	d := decoder{book: complaints, places: map[string]place{}}
	var file fileScenario
	d.value(root, reflect.ValueOf(&file).Elem(), rules{}, "")
	if err := complaints.err(); err != nil {
		return nil, err
	}
	// Both modes are checked whichever is asked for, so that a mistake in the
	// full sizes doesn't wait for the first full run.
	var scenario *Scenario
	for _, m := range []string{ModeQuick, ModeFull} {
		before := len(complaints.list)
		e := effect{book: complaints, file: &file, mode: m, places: d.places}
		if s := e.scenario(); m == mode {
			scenario = s
		}
		if len(complaints.list) > before {
			return nil, complaints.err()
		}
	}
	scenario.Path, scenario.Sets = path, sets
	hash, err := scenario.hash()
	if err != nil {
		return nil, fmt.Errorf("scenario %s: %w", path, err)
	}
	scenario.Hash = hash
	return scenario, nil
}
