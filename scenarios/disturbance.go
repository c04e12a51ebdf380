package scenarios

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/nexuscore-labs/nexus/machine"
)

// stealStepNs is the step in which /proc/stat counts steal: a single one may be
// a microsecond that happened to complete it.
const stealStepNs = tickNs

// strangers watches what others than the experiment run on the pinned CPUs,
// from before the load to behind its drain: looking costs CPU time, and this
// way it costs none of the measured part.
type strangers struct {
	before *machine.Census
	err    error
}

func watchStrangers() strangers {
	before, err := machine.TakeCensus()
	return strangers{before: before, err: err}
}

// judge compares what ran meanwhile with the limit. The contender must still
// live, or its own processes could not be told from others.
func (s strangers) judge(t *trialRun) error {
	after, err := machine.TakeCensus()
	if err = errors.Join(s.err, err); err != nil {
		return err
	}
	if !after.Complete() {
		t.unsee("other load on the pinned CPUs: /proc does not show all processes")
	}
	own := []int{os.Getpid()}
	if t.group != nil {
		own = append(own, pidsOf(t.group)...)
	}
	family := []int{t.child.cmd.Process.Pid}
	if t.both != nil {
		family = t.both.processes()
	}
	limit := t.scenario.Validity.otherLoadMax()
	for _, set := range []struct {
		whose string
		cpus  []int
		share *float64
	}{
		{"contender", t.cpus.Contender, &t.trial.Disturbance.OtherContenderShare},
		{"generator", t.generatorCPUs(), &t.trial.Disturbance.OtherGeneratorShare},
	} {
		load := s.before.Until(after, set.cpus, own, family)
		*set.share = load.Share(len(set.cpus))
		if *set.share > limit {
			t.invalid(fmt.Sprintf("other load: other programs used %.1f%% of the %s's CPUs %v, at most %s: %s",
				100**set.share, set.whose, set.cpus, percent(limit), worst(load.Processes)))
		}
	}
	return nil
}

// worst names the processes that used most.
func worst(processes []machine.ProcessLoad) string {
	const named = 2
	var names []string
	for _, p := range processes[:min(named, len(processes))] {
		names = append(names, p.String())
	}
	if more := len(processes) - named; more > 0 {
		names = append(names, fmt.Sprintf("%d more", more))
	}
	return strings.Join(names, ", ")
}

func percent(share float64) string { return fmt.Sprintf("%.3g%% are allowed", 100*share) }

// pidsOf lists the processes of a cgroup; of one that can't be read, none.
func pidsOf(group *machine.Cgroup) []int {
	text, err := os.ReadFile(filepath.Join(group.Path, "cgroup.procs"))
	if err != nil {
		return nil
	}
	var pids []int
	for _, field := range strings.Fields(string(text)) {
		if pid, err := strconv.Atoi(field); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// judgeMachine voids a trial during which the machine was not itself.
func (t *trialRun) judgeMachine(r *machine.Readings) {
	d := t.trial.Disturbance
	if r.ElapsedNs > 0 {
		d.StealWorstShare = float64(r.StealWorstNs) / float64(r.ElapsedNs)
	}
	d.FrequencyKHz = r.FrequencyBusyKHz
	for _, reason := range r.Invalid {
		t.invalid(reason)
	}
	if limit := t.scenario.Validity.stealMax(); d.StealWorstShare > limit && r.StealWorstNs > stealStepNs {
		t.invalid(fmt.Sprintf("steal: the hypervisor took %.1f%% of CPU %d's time, at most %s", 100*d.StealWorstShare, r.StealWorstCPU, percent(limit)))
	}
}

// unsee notes once what could not be measured.
func (t *trialRun) unsee(text string) { t.missed([]string{text}) }

// pinned are the CPUs of contender and generator, each once.
func (t *trialRun) pinned() []int {
	cpus := append([]int(nil), t.cpus.Contender...)
	for _, cpu := range t.generatorCPUs() {
		shared := false
		for _, c := range t.cpus.Contender {
			shared = shared || c == cpu
		}
		if !shared {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// oneLine keeps a reason on one line, whatever made it.
func oneLine(text string) string {
	return strings.Join(strings.Fields(strings.ReplaceAll(text, "\n", "; ")), " ")
}
