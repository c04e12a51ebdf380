// Package day03 is the lab of lesson 3: queries over tenants' document graphs,
// answered from compressed sparse rows in WebAssembly memory, beside the same in
// plain Go, maps on the heap, and well-known stores.
package day03

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

//go:embed claims.yaml
var claimsYAML []byte

// Lab returns the lab.
func Lab() *scenarios.Lab {
	return &scenarios.Lab{
		Day:      3,
		Title:    "Document-graph queries",
		Question: "Do graphs as flat arrays in each tenant's own Wasm memory answer faster than maps on the heap, and what does the sandbox cost?",
		Scenario: "scenarios/day03/graphs.yaml",
		Needs:    []string{"io_uring"},

		Contenders: contenders(),
		Source:     newTrialSource,
		Verify:     verifyTrial,
		Checks:     checks(),
		ClaimsYAML: claimsYAML,
	}
}

// newTrialSource states the queries of one trial.
func newTrialSource(spec scenarios.TrialSpec) (loadgen.Source, error) {
	w, err := workloadOf(spec.Workload.Params)
	if err != nil {
		return nil, err
	}
	w.tenants = spec.Workload.Tenants
	return newSource(w, spec.Workload.Popularity, spec.Seed, spec.Point.Writers)
}

// verifyTrial counts what the source compared: every answer, as it came.
func verifyTrial(_ context.Context, evidence scenarios.Evidence) (reports.OracleResult, error) {
	asked, ok := evidence.Source.(*source)
	if !ok {
		return reports.OracleResult{}, fmt.Errorf("the oracle of day 3 cannot judge a %T", evidence.Source)
	}
	return asked.compared(), nil
}
