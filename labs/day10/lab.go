// Package day10 is the lab of lesson 10: projections served from the network
// driver, beside a server in user space, Redis and aggregation on demand.
package day10

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

//go:embed claims.yaml
var claimsYAML []byte

// Lab returns the lab.
func Lab() *scenarios.Lab {
	return &scenarios.Lab{
		Day:        10,
		Title:      "The projection cache in the driver",
		Question:   "Does a read answered in the network driver cost a fifth of one that a server in user space answers?",
		Scenario:   "scenarios/day10/reads.yaml",
		Needs:      []string{"io_uring"},
		Tools:      []string{"tool.redis", "tool.postgres"},
		Contenders: contenders(),
		Source:     newTrialSource,
		Verify:     verifyTrial,
		Checks:     checks(),

		ClaimsYAML: claimsYAML,
	}
}

// verifyTrial counts what the source compared: every answer, as it came.
func verifyTrial(_ context.Context, evidence scenarios.Evidence) (reports.OracleResult, error) {
	asked, ok := evidence.Source.(*source)
	if !ok {
		return reports.OracleResult{}, fmt.Errorf("the oracle of day 10 cannot judge a %T", evidence.Source)
	}
	var found reports.OracleResult
	for i := range asked.readers {
		found.Checked += asked.readers[i].checked
		if asked.readers[i].problem != "" && found.Note == "" {
			found.Note = asked.readers[i].problem
		}
	}
	return found, nil
}
