package cli

import (
	"fmt"
	"strings"
	"testing"

	"github.com/nexuscore-labs/nexus/labs"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
	"github.com/nexuscore-labs/nexus/vagrant"
)

func TestProposals(t *testing.T) {
	findings := []machine.Finding{{ID: "btf", Status: machine.Absent, Fix: "?"}, {ID: "btf", Status: machine.OK}, {ID: "pmu", Status: machine.Absent, Fix: "?"}}
	proposeKernel(findings)
	want := fmt.Sprintf("make lab DAY=%d KERNEL=6.12", labs.All()[0].Day)
	if findings[0].Fix != want || findings[1].Fix != "" || findings[2].Fix != "?" {
		t.Errorf("fixes %q, %q, %q", findings[0].Fix, findings[1].Fix, findings[2].Fix)
	}
	if fix := kernelFor("fentry"); fix != want {
		t.Errorf("fentry: %q", fix)
	}
	if fix := kernelFor("no such kind"); len(vagrant.Proven) > 100 && !strings.Contains(fix, "no kernel of the matrix") {
		t.Errorf("an unknown kind: %q", fix)
	}
}

func TestVMUsage(t *testing.T) {
	for line, code := range map[string]int{
		"vm run":                       exitUsage,
		"vm run --day 7 -- ls":         exitUsage,
		"vm run --day 7 --mode slow":   exitUsage,
		"vm run --set a=b -- ls":       exitUsage,
		"vm run --form small -- ls":    exitUsage,
		"vm run --day 7 --form big":    exitUsage,
		"vm run --day 99":              exitUsage,
		"vm run --kernel 2.4 --day 7":  exitEnvironment,
		"vm run --kernel 5.15 --day 7": exitEnvironment,
		"vm run --memory 1 --day 7":    exitUsage,
		"vm run --cpus 0 --day 7":      exitUsage,
		"vm run --accel hvf --day 7":   exitUsage,
		"vm run --timeout 0s --day 7":  exitUsage,
		"vm test --kernel 6.12,2.4":    exitEnvironment,
		"vm powercut --mode slow":      exitUsage,
		"vm powercut --cuts -1":        exitUsage,
		"vm powercut --kernel 2.4":     exitEnvironment,
		"vm shell --kernel 2.4":        exitEnvironment,
		"vm-init":                      exitUsage,
		"vm-guest":                     exitContender,
		"vm list":                      exitPass,
		"vm list --json":               exitPass,
	} {
		var out, errs strings.Builder
		if got := Main(strings.Fields(line), &out, &errs); got != code {
			t.Errorf("nexus %s: exit code %d, want %d: %s", line, got, code, errs.String())
		}
		if code != exitPass && strings.TrimSpace(errs.String()) == "" {
			t.Errorf("nexus %s: nothing is said", line)
		}
	}
}

// The word by which a report knows an emulated machine is the one that the
// fingerprint uses.
func TestEmulatedWord(t *testing.T) {
	if machine.Emulated != reports.EmulatedHypervisor {
		t.Errorf("%q and %q", machine.Emulated, reports.EmulatedHypervisor)
	}
}
