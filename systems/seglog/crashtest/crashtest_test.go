package crashtest

import (
	"context"
	"os"
	"testing"
)

const childEnv = "NEXUS_CRASHTEST_CHILD"

// TestMain turns this test binary into the child that is killed.
func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(ChildMain(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// full runs as many points as the full mode of the lab.
var full = os.Getenv("NEXUS_FULL") != ""

func size(quick, all int) int {
	if full {
		return all
	}
	return quick
}

func demandClean(t *testing.T, c Counts, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if c.Bad() > 0 {
		t.Fatalf("lost %d, phantom %d, wrong %d", c.Lost, c.Phantom, c.Wrong)
	}
	if c.Checked == 0 {
		t.Fatal("nothing was checked")
	}
}

func TestPowerCut(t *testing.T) {
	c, err := Run(context.Background(), Options{Mode: PowerCut, Seed: 1, Points: size(300, 20_000)})
	demandClean(t, c, err)
	if c.Torn == 0 || c.Recrash == 0 || c.Unacked == 0 || c.Killed == 0 || c.Retired == 0 || c.Overlaps == 0 {
		t.Errorf("the points miss torn tails, crashes in recovery, unacknowledged records or overlapping commits: %+v", c)
	}
}

// TestPowerCutFindsEarlyAcknowledgement breaks the log: the harness must see it.
func TestPowerCutFindsEarlyAcknowledgement(t *testing.T) {
	c, err := Run(context.Background(), Options{Mode: PowerCut, Seed: 1, Points: 100, AckBeforeSync: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.Lost == 0 {
		t.Fatalf("a log that acknowledges before it syncs passed: %+v", c)
	}
}

// TestPowerCutFindsCommitsFinishedOutOfOrder breaks the order of two commits.
func TestPowerCutFindsCommitsFinishedOutOfOrder(t *testing.T) {
	c, err := Run(context.Background(), Options{Mode: PowerCut, Seed: 1, Points: 200, FinishOutOfOrder: true})
	if err != nil {
		t.Fatal(err)
	}
	if c.Lost == 0 {
		t.Fatalf("a log that acknowledges a commit when the next one is durable passed: %+v", c)
	}
}

func TestErrorsAtEveryOperation(t *testing.T) {
	c, err := Run(context.Background(), Options{Mode: Errors, Seed: 2, Points: size(240, 0)})
	demandClean(t, c, err)
	if c.Overlaps == 0 {
		t.Error("no error hit a commit while another was out")
	}
	if c.Faults < c.Points/10 {
		t.Errorf("only %d of %d faults hit", c.Faults, c.Points)
	}
}

func TestKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c, err := Run(context.Background(), Options{
		Mode: Kill, Seed: 3, Points: size(10, 100), Dir: t.TempDir(), Self: self, Env: []string{childEnv + "=1"},
	})
	demandClean(t, c, err)
}

func TestRunRefusesNonsense(t *testing.T) {
	for _, o := range []Options{{Mode: "no"}, {Mode: PowerCut, Points: -1}, {Mode: Kill, Points: 1}} {
		if _, err := Run(context.Background(), o); err == nil {
			t.Errorf("%+v passed", o)
		}
	}
}
