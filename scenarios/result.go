package scenarios

import (
	"fmt"
	"sort"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/reports"
)

// result sums up what there is. unfinished says why the run is not complete.
func (r *runner) result(unfinished string) (*reports.Result, error) {
	o := &r.options
	s := o.Scenario
	out := &reports.Result{
		SchemaVersion: reports.SchemaVersion, Day: o.Lab.Day, Lab: labName(o.Lab), Title: o.Lab.Title, Question: o.Lab.Question,
		Scenario: s.Name, ScenarioHash: s.Hash, Mode: s.Mode, Seed: s.Seed,
		StartedAt: r.record.StartedAt, ElapsedNs: time.Since(r.record.StartedAt).Nanoseconds(), Command: r.record.Command,
		Environment: o.Environment, Artifacts: map[string]string{"result": fileResult},
		Faults: o.Faults,
		Claims: []reports.ClaimResult{}, Trials: []reports.Trial{}, Metrics: []reports.Metric{},
	}
	board := newBoard(r.slots, r.records)
	points, err := board.pointResults(s.Seed)
	if err != nil {
		return nil, fmt.Errorf("sum up the trials: %w", err)
	}
	out.Points, out.Contenders = points, contenderResults(o.Lab, s, points)
	for _, slot := range r.slots {
		for _, t := range r.records[slot.index].Attempts {
			out.Trials = append(out.Trials, t)
			addOracle(&out.Oracle, t.Oracle)
		}
	}
	out.Metrics = append(out.Metrics, r.loads...)
	if s.Overhead != nil {
		metrics, missing := board.overheadMetrics(s.Overhead)
		out.Metrics = append(out.Metrics, metrics...)
		for _, what := range missing {
			r.note(what)
		}
	}
	if err := r.addChecks(out); err != nil {
		return nil, err
	}
	r.addMethods(out)
	out.Warnings = s.Validity.loosened()
	e := evidence{scenario: s, board: board, metrics: out.Metrics, oracle: out.Oracle, gaps: r.checkGaps()}
	for _, c := range out.Contenders {
		if c.Role == reports.RolePeer {
			e.peers = append(e.peers, c.Name)
		}
	}
	e.judgeAll(out, unfinished)
	return out, nil
}

// addChecks adds what the finished checks found, and the claims' verdicts.
func (r *runner) addChecks(out *reports.Result) error {
	var judged []reports.ClaimResult
	for _, c := range r.checks {
		for _, m := range c.Metrics {
			if m.Source == "" {
				m.Source = c.Name
			}
			out.Metrics = append(out.Metrics, m)
		}
		addOracle(&out.Oracle, c.Oracle)
		judged = append(judged, c.Claims...)
		if c.Error != "" {
			r.note(fmt.Sprintf("check %s: %s", c.Name, c.Error))
		}
	}
	var err error
	out.Claims, err = ledger(r.options.Lab, judged, r.options.Command)
	return err
}

// checkGaps names the checks that the scenario asks for and that failed or did
// not run.
func (r *runner) checkGaps() []string {
	ended := map[string]string{}
	var gaps []string
	for _, c := range r.checks {
		ended[c.Name] = c.Error
	}
	for _, name := range sortedKeys(r.options.Scenario.Checks) {
		failure, ran := ended[name]
		switch {
		case !ran:
			gaps = append(gaps, fmt.Sprintf("check %s did not run", name))
		case failure != "":
			gaps = append(gaps, fmt.Sprintf("check %s: %s", name, failure))
		}
	}
	return gaps
}

func addOracle(sum *reports.OracleResult, more reports.OracleResult) {
	sum.Checked += more.Checked
	sum.Wrong += more.Wrong
	sum.Lost += more.Lost
	sum.Phantom += more.Phantom
	if sum.Note == "" && more.Wrong+more.Lost+more.Phantom > 0 {
		sum.Note = more.Note
	}
}

// addMethods says how things were measured, and what was not.
func (r *runner) addMethods(out *reports.Result) {
	features := map[string]bool{}
	for i := range out.Trials {
		for _, f := range out.Trials[i].Generator.Features {
			features[f] = true
		}
	}
	client := "client latency and rate: io_uring load generator in another process, from the intended send time"
	if len(features) > 0 {
		client += " (" + strings.Join(sortedKeys(features), ", ") + ")"
	}
	out.MeasuredBy = []string{client}
	pinning := fmt.Sprintf("pinning: contender on CPUs %v, generator on CPUs %v", r.bench.cpus.Contender, r.bench.cpus.Generator)
	if note := r.bench.cpus.Note; note != "" {
		pinning += "; " + note
	}
	out.MeasuredBy = append(out.MeasuredBy, pinning)
	if r.bench.groups {
		out.MeasuredBy = append(out.MeasuredBy, "CPU time: cpu.stat of the contender's cgroup")
	} else {
		out.MeasuredBy = append(out.MeasuredBy, "CPU time: /proc/<pid>/stat, in steps of 10 ms")
	}
	out.MeasuredBy = append(out.MeasuredBy, "context switches, faults, memory and I/O: /proc of the contender")
	if r.bench.probes != nil && r.bench.groups {
		var attached []string
		for _, a := range r.bench.probes.Attachments() {
			attached = append(attached, fmt.Sprintf("kernel %s: %s by %s", a.Probe, a.Program, a.Rung))
		}
		sort.Strings(attached)
		out.MeasuredBy = append(out.MeasuredBy, attached...)
	}
	if r.bench.stages != nil {
		for _, program := range r.bench.stages.Programs() {
			out.MeasuredBy = append(out.MeasuredBy, "stages of a request: "+program)
		}
	}
	for _, text := range stageGaps(r.options.Scenario) {
		r.note(text)
	}
	for _, text := range r.bench.unseen {
		r.note(text)
	}
	out.NotMeasured = append([]string{}, r.notMeasured...)
}
