package day10

import (
	"encoding/binary"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/frame"
	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/reports/stats"
	"github.com/nexuscore-labs/nexus/scenarios"
	"github.com/nexuscore-labs/nexus/systems/projection/tenancy"
)

// TestMain lets the test binary be a tenant's process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == TenantChildCommand {
		os.Exit(tenancy.ChildMain())
	}
	os.Exit(m.Run())
}

// Sizes that make the experiments small.
var smallSizes = map[string]map[string]float64{
	"torn":           {"reads": 200_000, "reads_lesson": 100_000},
	"program":        {"runs": 1000},
	"bad-input":      {"packets": 3000},
	"reload":         {"reloads": 3},
	"rebuild":        {"rebuilds": 10, "events": 2000},
	"guest":          {"starts": 20},
	"rollback":       {"steps": 40},
	"tenants":        {"requests": 1000, "tenants": 50, "processes": 2},
	"hostile-guests": {"guests": 8},
	"pressure":       {"slots": 64, "requests": 2000},
}

// trialsMade are a result in which the driver answers nearly all, and aggregation
// costs a hundred times as much.
func trialsMade() *reports.Result {
	interval := func(v float64) *stats.Interval { return &stats.Interval{Center: v, Lo: v, Hi: v, N: 5} }
	return &reports.Result{
		Trials: []reports.Trial{{Contender: nameXDP, Status: "ok", System: map[string]float64{"driver_hit_ratio": 0.999}}},
		Points: []reports.PointResult{
			{Contender: nameXDP, Point: pointOnDemand, CPUNsPerOp: interval(1000)},
			{Contender: nameAggregate, Point: pointOnDemand, CPUNsPerOp: interval(100_000)},
		},
	}
}

// Every claim is judged by the check that claims.yaml names, and by no other; no
// check finds anything wrong.
func TestChecksJudgeTheirClaims(t *testing.T) {
	if unix.Geteuid() != 0 {
		t.Skip("BPF programs need root")
	}
	lab := Lab()
	claims, err := lab.Claims()
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range lab.Checks {
		t.Run(check.Name, func(t *testing.T) {
			found, err := check.Run(t.Context(), scenarios.CheckEnv{
				Mode: scenarios.ModeQuick, Seed: 10, Dir: t.TempDir(), Params: smallSizes[check.Name],
				Result: trialsMade(), Self: os.Args[0], Progress: func(int, int) {},
			})
			if err != nil {
				t.Fatal(err)
			}
			if o := found.Oracle; o.Wrong+o.Lost+o.Phantom > 0 {
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

func TestTrialClaimsCanFail(t *testing.T) {
	r := trialsMade()
	r.Trials[0].System["driver_hit_ratio"] = 0.9
	r.Points[1].CPUNsPerOp = &stats.Interval{Center: 2000, Lo: 2000, Hi: 2000, N: 5}
	for _, c := range []reports.ClaimResult{hitRatioClaim(r), onDemandClaim(r)} {
		if c.Verdict != scenarios.ClaimRefuted {
			t.Errorf("%s: %s: %s", c.ID, c.Verdict, c.Evidence)
		}
	}
	for _, c := range []reports.ClaimResult{hitRatioClaim(&reports.Result{}), onDemandClaim(&reports.Result{})} {
		if c.Verdict != scenarios.ClaimInconclusive {
			t.Errorf("nothing measured: %s: %s: %s", c.ID, c.Verdict, c.Evidence)
		}
	}
}

func newTestSource(t *testing.T, contender, codec string) *source {
	t.Helper()
	made, err := newTrialSource(scenarios.TrialSpec{
		Contender: contender, Seed: 3, Point: scenarios.Point{Writers: 2},
		Workload: scenarios.Workload{
			Codec: codec, Tenants: 3, Popularity: scenarios.Popularity{Kind: "uniform"},
			Params: map[string]string{paramEvents: "50", paramMore: "4", paramProjections: "1 2 3"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return made.(*source)
}

// The oracle takes the fold of as many events as the answer says, and nothing else.
func TestOracle(t *testing.T) {
	s := newTestSource(t, nameUDP, "frame")
	var op loadgen.Op
	s.Next(1, &op)
	n := uint64(len(s.expected.projections))
	answers := s.expected.answers[op.Token/n][op.Token%n]
	if len(answers) != 5 {
		t.Fatalf("%d versions of each projection, want 5", len(answers))
	}
	check := func(name string, body []byte, status uint8, want loadgen.Judgement) {
		t.Helper()
		if got := s.Check(1, op.Token, &loadgen.Reply{Status: status, Body: body}); got != want {
			t.Errorf("%s: judged %d, want %d", name, got, want)
		}
	}
	for _, body := range answers {
		check("right", body, 0, loadgen.Right)
	}
	torn := append(slices.Clone(answers[0][:40]), answers[4][40:]...)
	check("torn", torn, 0, loadgen.Wrong)
	flipped := slices.Clone(answers[2])
	flipped[len(flipped)-1] ^= 1
	check("one bit", flipped, 0, loadgen.Wrong)
	ahead := slices.Clone(answers[4])
	binary.LittleEndian.PutUint64(ahead, 55)
	check("a version that is not there", ahead, 0, loadgen.Wrong)
	check("cut short", answers[0][:20], 0, loadgen.Wrong)
	check("nothing", nil, 0, loadgen.Wrong)
	check("a refusal", nil, uint8(frame.StatusUnknown), loadgen.Refused)
	if s.readers[1].checked != 5 {
		t.Errorf("%d answers were counted as checked, want 5", s.readers[1].checked)
	}
}

// Only the subject's requests are as long as the longest answers.
func TestRequests(t *testing.T) {
	for _, test := range []struct {
		contender, codec string
		length           func(s *source) int
	}{
		{nameXDP, "frame", func(s *source) int { return slices.Max(bodyLens(s.expected)) }},
		{nameUDP, "frame", func(*source) int { return 4 }},
		{nameRedis, "resp", func(*source) int { return 0 }},
	} {
		s := newTestSource(t, test.contender, test.codec)
		var op loadgen.Op
		longest := 0
		for range 20 {
			s.Next(0, &op)
			longest = max(longest, len(op.Body))
		}
		if longest != test.length(s) || (test.codec == "resp") != (len(op.Key) > 0) || op.Unchecked != (test.codec == "frame") {
			t.Errorf("%s: %+v", test.contender, op)
		}
	}
}

func TestShapeRefuses(t *testing.T) {
	for _, params := range []map[string]string{
		{}, {paramEvents: "0", paramProjections: "1"}, {paramEvents: "x", paramProjections: "1"},
		{paramEvents: "5"}, {paramEvents: "5", paramProjections: "one"}, {paramEvents: "5", paramMore: "-1", paramProjections: "1"},
	} {
		if _, _, err := shape(params, 3); err == nil {
			t.Errorf("%v was accepted", params)
		}
	}
	if _, err := expect(dataset{tenants: 1, base: 3}, []uint32{99}); err == nil {
		t.Error("a projection that does not exist was accepted")
	}
}
