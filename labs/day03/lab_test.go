package day03

import (
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/components/graph"
	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/scenarios"
)

// These sizes make the experiments small.
var smallSizes = map[string]map[string]float64{
	"engines":  {"queries": 3},
	"start":    {"starts": 5},
	"homework": {"queries": 3},
	"arena":    {"updates": 20_000},
	"shards":   {"queries": 3},
	"handover": {"runs": 1000},
}

// Every claim is judged by the check that claims.yaml names, and by no other.
func TestChecksJudgeTheirClaims(t *testing.T) {
	graphSizes = []int{1000, 2000, 3000}
	lab := Lab()
	claims, err := lab.Claims()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range lab.Checks {
		t.Run(check.Name, func(t *testing.T) {
			found, err := check.Run(t.Context(), scenarios.CheckEnv{
				Mode: scenarios.ModeQuick, Seed: 3, Dir: t.TempDir(), Params: smallSizes[check.Name],
				Result: &reports.Result{}, Self: self, Progress: func(int, int) {},
			})
			if err != nil {
				t.Fatal(err)
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
			if !slices.Equal(got, want) {
				t.Errorf("judged %v, claims.yaml says %v", got, want)
			}
			if found.Oracle.Lost+found.Oracle.Phantom+found.Oracle.Wrong > 0 {
				t.Errorf("oracle %+v", found.Oracle)
			}
			for _, m := range found.Metrics {
				t.Logf("%s = %v %s", m.Name, m.Value, m.Unit)
				if m.Doc == "" || m.Unit == "" || math.IsNaN(m.Value) {
					t.Errorf("metric %+v", m)
				}
			}
		})
	}
}

func TestContenders(t *testing.T) {
	seen := map[string]bool{}
	for _, c := range Lab().Contenders {
		if c.Name == "" || seen[c.Name] {
			t.Errorf("the name %q is not one contender's", c.Name)
		}
		seen[c.Name] = true
		if c.Doc == "" || c.Durability == "" || c.Version == nil || c.Version() == "" || c.Serve == nil {
			t.Errorf("%s: doc %q, durability %q, or no version or Serve", c.Name, c.Doc, c.Durability)
		}
		if !slices.Contains([]string{reports.RoleSubject, reports.RoleBaseline, reports.RolePeer}, c.Role) {
			t.Errorf("%s: role %q", c.Name, c.Role)
		}
	}
}

func TestScenarioNamesWhatTheLabHas(t *testing.T) {
	lab := Lab()
	contenders, checks := map[string]bool{}, map[string]bool{}
	for _, c := range lab.Contenders {
		contenders[c.Name] = true
	}
	for _, c := range lab.Checks {
		checks[c.Name] = true
	}
	for _, mode := range []string{scenarios.ModeQuick, scenarios.ModeFull} {
		s, err := scenarios.Load("../../"+lab.Scenario, mode, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range s.Contenders {
			if !contenders[c.Name] {
				t.Errorf("%s: the lab has no contender %q", mode, c.Name)
			}
		}
		for _, p := range s.Points {
			if _, err := workloadOf(p.Workload.Params); err != nil {
				t.Errorf("%s: point %s: %v", mode, p.ID, err)
			}
		}
		for name := range s.Checks {
			if !checks[name] {
				t.Errorf("%s: the lab has no check %q", mode, name)
			}
		}
	}
}

var smallParams = map[string]string{
	"tenants": "3", "nodes": "300", "graphs": "2", "graph_seed": "1", "algorithm": "bfs", "depth": "3",
	"results_max": "0", "chunk_bytes": "500", "documents": "true", "stream": "true",
}

// answered plays a stream against an engine and returns what the source thinks.
func answered(t *testing.T, spoil func([]byte)) (*source, map[loadgen.Judgement]int) {
	t.Helper()
	w, err := workloadOf(smallParams)
	if err != nil {
		t.Fatal(err)
	}
	s, err := newSource(w, scenarios.Popularity{Kind: "uniform"}, 5, 2)
	if err != nil {
		t.Fatal(err)
	}
	graphs, err := corpusOf(w)
	if err != nil {
		t.Fatal(err)
	}
	judged := map[loadgen.Judgement]int{}
	for i := range 200 {
		var op loadgen.Op
		id := uint32(i % 2)
		s.Next(id, &op)
		q, err := graph.ParseQuery(op.Body)
		if err != nil || op.Tenant >= 3 || frame.Kind(op.Kind) != frame.KindQuery {
			t.Fatalf("op %+v: %v", op, err)
		}
		body, err := graphs.of(op.Tenant).Chunk(q, nil)
		if err != nil {
			t.Fatal(err)
		}
		spoil(body)
		judged[s.Check(id, op.Token, &loadgen.Reply{Body: body})]++
	}
	return s, judged
}

func TestTheSourceKnowsRightAnswers(t *testing.T) {
	s, judged := answered(t, func([]byte) {})
	if judged[loadgen.Right] != 200 {
		t.Errorf("judged %v", judged)
	}
	continued := 0
	for i := range s.streams {
		if s.streams[i].more {
			continued++
		}
	}
	if result := s.compared(); result.Checked != 200 || result.Wrong != 0 || continued == 0 {
		t.Errorf("compared %+v, %d streams go on", result, continued)
	}
}

func TestTheSourceSeesOneWrongBit(t *testing.T) {
	s, judged := answered(t, func(body []byte) { body[len(body)-1] ^= 1 })
	if result := s.compared(); judged[loadgen.Right] != 0 || result.Wrong != 200 || result.Note == "" {
		t.Errorf("judged %v, compared %+v", judged, result)
	}
	if s.Check(0, 0, nil) != loadgen.Refused || s.Check(0, 0, &loadgen.Reply{Status: 3}) != loadgen.Refused {
		t.Error("a refusal was taken for an answer")
	}
}

func TestWorkloadRefuses(t *testing.T) {
	for key, value := range map[string]string{
		"nodes": "0", "depth": "255", "graphs": "x", "algorithm": "dijkstra", "documents": "perhaps", "chunk_bytes": "70000",
	} {
		params := map[string]string{}
		for k, v := range smallParams {
			params[k] = v
		}
		params[key] = value
		if _, err := workloadOf(params); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("%s = %s: error %v", key, value, err)
		}
	}
}
