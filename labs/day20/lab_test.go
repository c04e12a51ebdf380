package day20

import (
	"encoding/binary"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/cdc/sink"
)

var small = map[string]string{"records": "5", "dim": "8", "small_share": "0.5", "delete_share": "0.1", "rollback_share": "0.1",
	"theta": "0.02", "poll_interval": "1s", "relay_interval": "100ms"}

func smallWorkload(t *testing.T) workload {
	t.Helper()
	w, err := workloadOf(small)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func TestWorkloadParams(t *testing.T) {
	for name, value := range map[string]string{"records": "0", "dim": "1", "small_share": "1.5", "theta": "-1", "poll_interval": "0s", "relay_interval": "x", "delete_share": "0.6"} {
		params := map[string]string{}
		for k, v := range small {
			params[k] = v
		}
		params[name] = value
		if _, err := workloadOf(params); err == nil {
			t.Errorf("%s=%s was accepted", name, value)
		}
	}
}

func TestChangeRoundTrip(t *testing.T) {
	c := change{op: opDelete, rolledBack: true, id: 7, n: 1 << 40, meaning: 3}
	back, err := parseChange(c.append(nil))
	if err != nil || back != c {
		t.Errorf("%+v, %v", back, err)
	}
	for _, body := range [][]byte{nil, make([]byte, changeLen-1), append([]byte{9}, make([]byte, changeLen-1)...)} {
		if _, err := parseChange(body); err == nil {
			t.Errorf("%v was accepted", body)
		}
	}
}

// A small change moves a vector by less than theta, another meaning by more.
func TestVectors(t *testing.T) {
	a := change{id: 1, n: 1, meaning: 1}.vector(384)
	if d := distance(a, change{id: 1, n: 9, meaning: 1}.vector(384)); d <= 0 || d > 0.001 {
		t.Errorf("a small change moves by %g", d)
	}
	if d := distance(a, change{id: 1, n: 9, meaning: 9}.vector(384)); d < 0.5 {
		t.Errorf("another meaning moves by %g", d)
	}
}

// ask lets a source state changes and acknowledges all but those of skip.
func ask(t *testing.T, n int, skip ...int) (*source, map[uint64]stored) {
	t.Helper()
	s := newSource(smallWorkload(t), 1, 2)
	state := map[uint64]stored{}
	for i := range n {
		var op loadgen.Op
		stream := uint32(i % 2)
		s.Next(stream, &op)
		c, err := parseChange(op.Body)
		if err != nil || op.Kind != uint8(frame.KindAppend) {
			t.Fatal(err)
		}
		if c.op == opDelete {
			delete(state, c.id)
		} else {
			state[c.id] = stored{c.n, c.vector(8)}
		}
		if !slices.Contains(skip, i) {
			if got := s.Check(stream, op.Token, &loadgen.Reply{Body: binary.LittleEndian.AppendUint64(nil, op.Token)}); got != loadgen.Right {
				t.Fatalf("judged %v", got)
			}
		}
	}
	return s, state
}

func clone(m map[uint64]stored) map[uint64]stored {
	out := map[uint64]stored{}
	for k, v := range m {
		out[k] = stored{v.n, slices.Clone(v.vector)}
	}
	return out
}

func first(m map[uint64]stored) uint64 {
	var ids []uint64
	for id := range m {
		ids = append(ids, id)
	}
	return slices.Min(ids)
}

// The oracle is shown what a contender could do wrong, and must name it.
func TestOracle(t *testing.T) {
	asked, state := ask(t, 200)
	for name, c := range map[string]struct {
		change func(records, points map[uint64]stored)
		want   reports.OracleResult
	}{
		"all right":             {func(_, _ map[uint64]stored) {}, reports.OracleResult{}},
		"point lost":            {func(_, p map[uint64]stored) { delete(p, first(p)) }, reports.OracleResult{Lost: 1}},
		"point too much":        {func(_, p map[uint64]stored) { p[rolledBackID] = stored{} }, reports.OracleResult{Phantom: 1}},
		"point moved":           {func(_, p map[uint64]stored) { p[first(p)].vector[0] += 100 }, reports.OracleResult{Wrong: 1}},
		"cancelled in the both": {func(r, p map[uint64]stored) { v := r[first(r)]; r[rolledBackID], p[rolledBackID] = v, v }, reports.OracleResult{Phantom: 1}},
		"acknowledged and gone": {func(r, p map[uint64]stored) { id := first(r); delete(r, id); delete(p, id) }, reports.OracleResult{Lost: 1}},
		"old state in the both": {func(r, p map[uint64]stored) {
			id := first(r)
			old := stored{0, change{id: id, n: 1 << 30, meaning: 1 << 30}.vector(8)}
			r[id], p[id] = old, old
		}, reports.OracleResult{Lost: 1}},
	} {
		records, points := clone(state), clone(state)
		c.change(records, points)
		got := judge(asked, records, points, 0)
		if (got.Lost+got.Phantom+got.Wrong > 0) != (got.Note != "") {
			t.Errorf("%s: the note is %q", name, got.Note)
		}
		got.Checked, got.Note = 0, ""
		if !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// What was not acknowledged may be there or not.
func TestOracleUnacknowledged(t *testing.T) {
	asked, state := ask(t, 50, 49)
	if got := judge(asked, state, clone(state), 0); got.Lost+got.Phantom+got.Wrong != 0 {
		t.Errorf("carried out: %+v", got)
	}
	_, before := ask(t, 49)
	if got := judge(asked, before, clone(before), 0); got.Lost+got.Phantom+got.Wrong != 0 {
		t.Errorf("not carried out: %+v", got)
	}
}

func TestVisible(t *testing.T) {
	v := newVisible()
	wait := func(c change) func() bool {
		committed, w := v.expect("p", c)
		committed()
		done := make(chan struct{})
		go func() { _ = w(t.Context()); close(done) }()
		return func() bool {
			select {
			case <-done:
				return true
			case <-time.After(20 * time.Millisecond):
				return false
			}
		}
	}
	first, second, gone := wait(change{n: 1}), wait(change{n: 2}), wait(change{n: 3, op: opDelete})
	v.saw([]sink.Change{{Key: "q", Payload: map[string]any{"n": int64(9)}}})
	if first() {
		t.Error("another point's change was taken for it")
	}
	v.saw([]sink.Change{{Key: "p", Payload: map[string]any{"n": int64(1)}}})
	if !first() || second() {
		t.Error("a change shows its successor, or not itself")
	}
	v.saw([]sink.Change{{Key: "p", Delete: true}})
	if !gone() || second() {
		t.Error("a deletion shows a change, or not itself")
	}
	v.saw([]sink.Change{{Key: "p", Payload: map[string]any{"n": float64(4)}}})
	if !second() || len(v.freshness()) != 3 {
		t.Errorf("a later change does not show an earlier one; %d times", len(v.freshness()))
	}
}

func trialsMade() *reports.Result {
	r := &reports.Result{}
	for range 5 {
		r.Trials = append(r.Trials, reports.Trial{Contender: "uprobe-cdc", Status: "ok", System: map[string]float64{"freshness_p50_ns": 1e6,
			"freshness_p99_ns": 2e6, "delta_check_ns": 500, "lost_count": 0, "captured_count": 100, "skipped_count": 60}})
	}
	return r
}

// Every claim is judged by the check that claims.yaml names, and by no other.
func TestChecksJudgeTheirClaims(t *testing.T) {
	lab := Lab()
	claims, err := lab.Claims()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]map[string]float64{"ledger": {"transactions": 5}, "read": {"records": 5}, "judge": {"starts": 5}}
	for _, check := range lab.Checks {
		t.Run(check.Name, func(t *testing.T) {
			found, err := check.Run(t.Context(), scenarios.CheckEnv{Mode: scenarios.ModeQuick, Seed: 7, Dir: t.TempDir(),
				Params: sizes[check.Name], Result: trialsMade(), Progress: func(int, int) {}})
			if err != nil && strings.Contains(err.Error(), "nexus setup --for cdc") {
				t.Skip(err)
			}
			if err != nil {
				t.Fatal(err)
			}
			if o := found.Oracle; o.Lost+o.Phantom+o.Wrong != 0 {
				t.Errorf("%+v", o)
			}
			var want, got []string
			for _, c := range claims {
				if c.Test == check.Name {
					want = append(want, c.ID)
				}
			}
			for _, c := range found.Claims {
				got = append(got, c.ID)
				t.Logf("%s: %s: %s", c.ID, c.Verdict, c.Evidence)
				if c.Evidence == "" || strings.Contains(c.Evidence, "NaN") || strings.Contains(c.Evidence, "%!") {
					t.Errorf("%s: evidence %q", c.ID, c.Evidence)
				}
			}
			slices.Sort(want)
			slices.Sort(got)
			if !slices.Equal(want, got) {
				t.Errorf("judged %v, want %v", got, want)
			}
		})
	}
}
