package scenarios

import (
	"bytes"
	"context"
	"fmt"
	"io/fs"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nexuscore-labs/nexus/loadgen"
	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// Each of the ways in which a measurement can go wrong is provoked here through
// the real runner, with a real contender under the real generator, and must end
// the run as invalid, exit code 5, with the reason on one line of the summary.
// What a test can't do to a machine (take its time as a hypervisor, heat it, set
// its clock) is done to the files and clocks that the sampler reads.

// gatedScenario has a gate on honest, so that its trials matter.
func gatedScenario() *Scenario {
	s := testScenario("honest")
	s.Thresholds = []Threshold{{ID: "works", Class: ClassGate, Metric: "throughput_per_s", Point: "peak", Subject: "honest", Compare: ">=", Limit: 1, Unit: "per_s"}}
	return s
}

// requireInvalid runs and demands exit code 5 for the reason, on one line.
func requireInvalid(t *testing.T, o Options, within limits, reason string) *reports.Result {
	t.Helper()
	result, err := runLimited(t, o, within)
	if err != nil {
		t.Fatal(err)
	}
	if code := ExitCode(result, nil); code != ExitInvalid || result.Verdict != reports.VerdictInvalid {
		t.Errorf("exit code %d, verdict %s (%v); want %d", code, result.Verdict, result.Reasons, ExitInvalid)
	}
	var summary bytes.Buffer
	if err := reports.Summary(&summary, result, reports.TerminalOptions{Width: 1000}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(summary.String(), "! INVALID") {
		t.Errorf("the summary does not say so:\n%s", &summary)
	}
	found := false
	for line := range strings.Lines(summary.String()) {
		found = found || strings.HasPrefix(line, "  - ") && strings.Contains(line, reason)
	}
	if !found {
		t.Errorf("no line with %q:\n%s", reason, &summary)
	}
	for _, trial := range result.Trials {
		if strings.Contains(trial.Reason, "\n") {
			t.Errorf("a reason of more than one line: %q", trial.Reason)
		}
	}
	return result
}

// hog burns a CPU until the test ends.
func hog(t *testing.T, cpu int) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sh", "-c", "while :; do :; done")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // reports the kill
	})
	var set unix.CPUSet
	set.Set(cpu)
	if err := unix.SchedSetaffinity(cmd.Process.Pid, &set); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestOtherLoadInvalidates(t *testing.T) {
	plan, err := machine.PlanCPUs()
	if err != nil {
		t.Fatal(err)
	}
	for whose, cpu := range map[string]int{"contender": plan.Contender[0], "generator": plan.Generator[0]} {
		t.Run(whose, func(t *testing.T) {
			s := gatedScenario()
			s.Validity.OtherLoadMax = nil
			s.Points[0].Duration = 100 * time.Millisecond
			other := hog(t, cpu)
			result := requireInvalid(t, Options{Scenario: s, CPUs: oneEach(t)}, limitsDefault, "other load: other programs used ")
			named := fmt.Sprintf("sh (pid %d)", other.Process.Pid)
			for _, trial := range result.Trials {
				if d := trial.Disturbance; max(d.OtherContenderShare, d.OtherGeneratorShare) <= otherLoadMaxDefault {
					t.Errorf("a hog went unseen: %+v", d)
				}
				if strings.Contains(trial.Reason, "the "+whose+"'s CPUs") && strings.Contains(trial.Reason, named) {
					return
				}
			}
			t.Errorf("no trial names %s on the %s's CPUs: %s", named, whose, result.Trials[0].Reason)
		})
	}
}

// A loosened limit lets the same trials count, and the result says so.
func TestLoosenedLimitWarns(t *testing.T) {
	plan, err := machine.PlanCPUs()
	if err != nil {
		t.Fatal(err)
	}
	hog(t, plan.Contender[0])
	result, err := runTest(t, Options{Scenario: gatedScenario()})
	if err != nil {
		t.Fatal(err)
	}
	for _, trial := range result.Trials {
		if strings.Contains(trial.Reason, "other load") {
			t.Errorf("invalid all the same: %s", trial.Reason)
		}
	}
	if len(result.Warnings) != 2 || !strings.Contains(result.Warnings[0], "other programs take up to 100%") {
		t.Errorf("warnings: %q", result.Warnings)
	}
}

func TestRateThatCannotBeMetInvalidates(t *testing.T) {
	s := gatedScenario()
	p := &s.Points[0]
	// One request under way per connection, each taking 2 ms: at most 1,000/s.
	p.Arrival, p.RatePerS, p.InFlightMax, p.Timeout = "constant", 20_000, 1, 10*time.Second
	p.Contenders, s.Contenders = []string{"slow"}, []ContenderChoice{{Name: "slow"}}
	s.Thresholds[0].Subject = "slow"
	requireInvalid(t, Options{Scenario: s}, limitsDefault, "rate: ")
}

// starve takes half of a CPU's time, in pieces of 5 ms, from everything that is
// not real-time. It is a thread of this process, so it is no other load.
func starve(t *testing.T, cpu int) {
	t.Helper()
	const piece = 5 * time.Millisecond
	stop, started, done := make(chan struct{}), make(chan error), make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var set unix.CPUSet
		set.Set(cpu)
		err := unix.SchedSetaffinity(0, &set)
		if err == nil {
			err = unix.SchedSetAttr(0, &unix.SchedAttr{Size: unix.SizeofSchedAttr, Policy: unix.SCHED_FIFO, Priority: 99}, 0)
		}
		started <- err
		for err == nil {
			for began := time.Now(); time.Since(began) < piece; {
			}
			select {
			case <-stop:
				return
			case <-time.After(piece):
			}
		}
	}()
	if err := <-started; err != nil {
		t.Skipf("a real-time thread needs CAP_SYS_NICE: %v", err)
	}
	t.Cleanup(func() {
		close(stop)
		<-done
	})
}

func TestSaturatedGeneratorInvalidates(t *testing.T) {
	s := gatedScenario()
	p := &s.Points[0]
	p.Arrival, p.RatePerS, p.InFlightMax, p.Duration = "constant", 2000, 1024, 100*time.Millisecond
	plan := oneEach(t)
	starve(t, plan.Generator[0])
	result := requireInvalid(t, Options{Scenario: s, CPUs: plan}, limitsDefault, "the generator fell behind: ")
	saturated := 0
	for _, trial := range result.Trials {
		if trial.Generator.Saturated {
			saturated++
		}
	}
	if saturated == 0 {
		t.Errorf("none of %d trials says that its generator was saturated", len(result.Trials))
	}
}

func oneEach(t *testing.T) machine.CPUPlan {
	t.Helper()
	plan, err := machine.PlanCPUs()
	if err != nil {
		t.Fatal(err)
	}
	plan.Contender, plan.Generator = plan.Contender[:1], plan.Generator[:1]
	return plan
}

// An oracle that looks at a part of the answers proves nothing about the rest,
// whether the scenario or a gate asks for more.
func TestSmallOracleCoverageInvalidates(t *testing.T) {
	half := testLab()
	half.Verify = func(ctx context.Context, e Evidence) (reports.OracleResult, error) {
		out, err := verifyTestLog(ctx, e)
		out.Checked = e.Load.Completed / 2
		return out, err
	}
	s := gatedScenario()
	s.Validity.OracleCoverageMin = 0.9
	requireInvalid(t, Options{Lab: half, Scenario: s}, limitsDefault, "honest at peak: the oracle looked at only ")

	s = gatedScenario()
	s.Thresholds[0].CoverageMin = 0.9
	requireInvalid(t, Options{Lab: half, Scenario: s}, limitsDefault, "gate works: the oracle looked at ")

	s.Validity.OracleCoverageMin = 0.9
	result, err := runTest(t, Options{Scenario: s})
	if err != nil || result.Verdict == reports.VerdictInvalid && strings.Contains(strings.Join(result.Reasons, "; "), "oracle") {
		t.Errorf("full coverage: %v, %v", err, result.Reasons)
	}
}

// A machine whose /proc/stat, CPU frequency and heat counters change with every
// look at them.
type restlessMachine struct {
	looks atomic.Int64
	files func(look int64) map[string]string
}

func (m *restlessMachine) Open(name string) (fs.File, error) {
	files := fstest.MapFS{}
	for file, text := range m.files(m.looks.Add(1)) {
		files[file] = &fstest.MapFile{Data: []byte(text)}
	}
	return files.Open(name)
}

// statOf is /proc/stat of CPUs that were busy and lost to steal, in ticks.
func statOf(busy, steal int64) string {
	var b strings.Builder
	for cpu := range 64 {
		fmt.Fprintf(&b, "cpu%d %d 0 0 0 0 0 0 %d\n", cpu, busy, steal)
	}
	return b.String()
}

func perCPU(file, text string, into map[string]string) {
	for cpu := range 64 {
		into[fmt.Sprintf("sys/devices/system/cpu/cpu%d/%s", cpu, file)] = text
	}
}

func TestDisturbedMachineInvalidates(t *testing.T) {
	const source = "sys/devices/system/clocksource/clocksource0/current_clocksource"
	// The clocks are this machine's, with what the test adds from the second look on.
	clocks := func(change func(c *machine.Clocks, look int64)) func() (machine.Clocks, error) {
		var looks atomic.Int64
		return func() (machine.Clocks, error) {
			now := time.Since(processStart).Nanoseconds()
			c := machine.Clocks{MonotonicNs: now, RealNs: now, BootNs: now}
			change(&c, looks.Add(1))
			return c, nil
		}
	}
	for _, c := range []struct {
		name   string
		files  func(look int64) map[string]string
		clocks func(c *machine.Clocks, look int64)
		reason string
	}{
		{"steal", func(look int64) map[string]string { return map[string]string{"proc/stat": statOf(0, 10*look)} }, nil,
			"steal: the hypervisor took "},
		{"heat", func(look int64) map[string]string {
			files := map[string]string{"proc/stat": statOf(0, 0)}
			perCPU("thermal_throttle/core_throttle_count", fmt.Sprint(look), files)
			return files
		}, nil, "the CPU throttled itself "},
		{"frequency", func(look int64) map[string]string {
			files := map[string]string{"proc/stat": statOf(100*look, 0)}
			perCPU("cpufreq/scaling_cur_freq", fmt.Sprint(max(1_000_000, 3_000_000-100_000*look)), files)
			return files
		}, nil, "the frequency of CPU "},
		{"clock source", func(look int64) map[string]string {
			return map[string]string{"proc/stat": statOf(0, 0), source: fmt.Sprint("clock", look)}
		}, nil, "the clock source changed "},
		{"clock jump", nil, func(c *machine.Clocks, look int64) { c.RealNs += look * 1e9 }, "the wall clock jumped "},
		{"suspension", nil, func(c *machine.Clocks, look int64) { c.BootNs += look * 1e9 }, "the machine was suspended for "},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := gatedScenario()
			s.Validity.StealMax = nil
			s.Points[0].Duration = 150 * time.Millisecond // three looks of the sampler
			within := limitsDefault
			within.machine = func(o *machine.SamplerOptions) {
				if c.files != nil {
					o.Root = &restlessMachine{files: c.files}
				}
				if c.clocks != nil {
					o.Clocks = clocks(c.clocks)
				}
			}
			requireInvalid(t, Options{Scenario: s}, within, c.reason)
		})
	}
}

var processStart = time.Now()

// A trial that was disturbed once is repeated, and the run stands.
func TestDisturbedTrialIsRepeated(t *testing.T) {
	s := gatedScenario()
	disturbed := 0
	within := limitsDefault
	within.machine = func(o *machine.SamplerOptions) {
		if disturbed++; disturbed == 2 {
			o.Root = &restlessMachine{files: func(look int64) map[string]string {
				files := map[string]string{"proc/stat": statOf(0, 0)}
				perCPU("thermal_throttle/core_throttle_count", fmt.Sprint(look), files)
				return files
			}}
		}
	}
	var notes []string
	result, err := run(t.Context(), Options{Lab: testLab(), Scenario: s, RunsDir: t.TempDir(), Progress: func(e Event) {
		if e.Kind == EventNote {
			notes = append(notes, e.Message)
		}
	}}, within, loadgen.Run)
	if err != nil {
		t.Fatal(err)
	}
	ok := 0
	for _, trial := range result.Trials {
		if trial.Status == trialOK {
			ok++
		}
	}
	if ok != s.Points[0].Trials || len(result.Trials) < ok+1 || ExitCode(result, nil) == ExitInvalid && result.Verdict == reports.VerdictInvalid {
		t.Errorf("%d of %d trials are ok, verdict %s: %v", ok, len(result.Trials), result.Verdict, result.Reasons)
	}
	if text := strings.Join(notes, "\n"); !strings.Contains(text, "is invalid and repeated: ") || !strings.Contains(text, "throttled") {
		t.Errorf("the repeat was not announced: %s", text)
	}
}
