// Package day20 is the lab of lesson 20: a vector store that follows a SurrealDB
// by a probe in the store's write path, beside polling, an outbox through Kafka
// and the store's own notifications.
//
// A request is a change of one record. It is answered when the change is in the
// vector store, where a search finds it: its latency is the write's and the
// freshness together, from the moment at which it was due.
package day20

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
		Day:      20,
		Title:    "Change data capture from inside the write path",
		Question: "Does a probe on the store's own commits bring changes to a vector store sooner than polling or Kafka, without losing or inventing one?",
		Scenario: "scenarios/day20/freshness.yaml",
		Needs:    []string{"io_uring", "tool.node", "tool.npm"},

		Contenders: contenders(),
		Source:     newTrialSource,
		Verify:     verifyTrial,
		Checks:     checks(),
		ClaimsYAML: claimsYAML,
	}
}

// newTrialSource states the changes of one trial.
func newTrialSource(spec scenarios.TrialSpec) (loadgen.Source, error) {
	w, err := workloadOf(spec.Workload.Params)
	if err != nil {
		return nil, err
	}
	return newSource(w, spec.Seed, spec.Point.Writers), nil
}

// verifyTrial compares both stores, and the source store with what was acknowledged.
func verifyTrial(ctx context.Context, evidence scenarios.Evidence) (reports.OracleResult, error) {
	asked, ok := evidence.Source.(*source)
	if !ok {
		return reports.OracleResult{}, fmt.Errorf("the oracle of day 20 cannot judge a %T", evidence.Source)
	}
	w, err := workloadOf(evidence.Spec.Workload.Params)
	if err != nil {
		return reports.OracleResult{}, err
	}
	theta := 0.0
	if evidence.Contender.Role == reports.RoleSubject {
		theta = w.theta
	}
	return verify(ctx, evidence.Dir, asked, theta)
}
