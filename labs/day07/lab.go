// Package day07 is the lab of lesson 7: an append-only segment log with group
// commit over io_uring, beside fsync-per-append and well-known logs and stores.
package day07

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/loadgen/keys"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

//go:embed claims.yaml
var claimsYAML []byte

// Lab returns the lab.
func Lab() *scenarios.Lab {
	lab := &scenarios.Lab{
		Day:      7,
		Title:    "The append-only segment log",
		Question: "Does group commit over io_uring remove the fsync-per-append limit without losing an acknowledged record?",
		Scenario: "scenarios/day07/writers.yaml",
		Needs:    []string{"io_uring"},
		Source:   newTrialSource,
		Verify:   verifyTrial,
		Checks:   checks(),

		ClaimsYAML: claimsYAML,
	}
	for _, c := range contenders() {
		lab.Contenders = append(lab.Contenders, c.Contender)
	}
	return lab
}

// newTrialSource states the appends of one trial.
func newTrialSource(spec scenarios.TrialSpec) (loadgen.Source, error) {
	w := spec.Point.Workload
	if w.Record.MinBytes < recordHeaderLen {
		return nil, fmt.Errorf("workload.record: a record names its writer and number and so has at least %d bytes, not %d", recordHeaderLen, w.Record.MinBytes)
	}
	shape := recordShape{
		seed:    spec.Seed,
		sizes:   w.Record.Kind,
		lenMin:  w.Record.MinBytes,
		lenMax:  w.Record.MaxBytes,
		writers: spec.Point.Writers,
	}
	return newSource(shape, func(writer uint64) (keys.Picker, error) {
		return keys.New(w.Popularity.Kind, uint64(w.Tenants), w.Popularity.Skew, spec.Seed, writer)
	})
}

// verifyTrial reads back what a trial's contender left.
func verifyTrial(_ context.Context, evidence scenarios.Evidence) (reports.OracleResult, error) {
	asked, ok := evidence.Source.(*source)
	if !ok {
		return reports.OracleResult{}, fmt.Errorf("the oracle of day 7 cannot judge a %T", evidence.Source)
	}
	for _, c := range contenders() {
		if c.Name == evidence.Contender.Name {
			return verify(evidence.Dir, c.scan, asked)
		}
	}
	return reports.OracleResult{}, fmt.Errorf("no contender %q", evidence.Contender.Name)
}
