package scenarios

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nexuscore-labs/nexus/machine"
	"github.com/nexuscore-labs/nexus/reports"
)

// prepare checks everything that can be checked before the first trial, opens
// the run's folder and reads what an interrupted run has done.
func (r *runner) prepare(ctx context.Context) error {
	o := &r.options
	if o.Lab == nil || o.Scenario == nil && o.Resume == "" {
		return usageError("", "run: a lab and a scenario are needed")
	}
	if o.Scenario == nil {
		scenario, err := LoadResumed(o.Resume)
		if err != nil {
			return err
		}
		o.Scenario = scenario
	}
	if err := o.Scenario.checkLab(o.Lab); err != nil {
		return err
	}
	if err := checkNeeds(ctx, o.Lab); err != nil {
		return err
	}
	if err := r.prepareBench(); err != nil {
		return err
	}
	if err := r.prepareReference(); err != nil {
		return err
	}
	r.slots = plan(o.Scenario)
	return r.prepareFolder()
}

// prepareReference asks the plan for the trials of the reference build.
func (r *runner) prepareReference() error {
	o := &r.options
	r.bench.reference, r.bench.faults = o.Reference, o.Faults
	if o.Resume != "" && (o.Reference != "" || len(o.Faults) > 0) {
		return usageError("start it anew", "a run with a reference build or a planted fault can't be resumed")
	}
	if o.Reference == "" {
		return nil
	}
	info, err := os.Stat(o.Reference)
	if err != nil {
		return usageError("build it from the commit to compare with", "the reference build: %w", err)
	}
	if !info.Mode().IsRegular() || info.Mode().Perm()&0o111 == 0 {
		return usageError("build it from the commit to compare with", "the reference build %q is no program", o.Reference)
	}
	if r.bench.reference, err = filepath.Abs(o.Reference); err != nil {
		return usageError("", "find the reference build: %w", err)
	}
	o.Scenario.twins = map[string]bool{}
	for i := range o.Lab.Contenders {
		if c := &o.Lab.Contenders[i]; c.Role == reports.RoleSubject {
			o.Scenario.twins[c.Name] = true
		}
	}
	return nil
}

// checkNeeds ends the run when the machine lacks what the lab can't do without.
func checkNeeds(ctx context.Context, lab *Lab) error {
	missing, err := machine.Needs(ctx, lab.Needs, machine.DoctorOptions{})
	if err != nil {
		return environmentError("", "look at what this machine can do: %w", err)
	}
	if len(missing) == 0 {
		return nil
	}
	lines := make([]string, len(missing))
	for i := range missing {
		lines[i] = fmt.Sprint(missing[i])
	}
	return environmentError("`nexus doctor` explains each", "this machine lacks what day %d needs: %s", lab.Day, strings.Join(lines, "; "))
}

func (r *runner) prepareBench() error {
	o := &r.options
	self := o.Self
	if self == "" {
		path, err := os.Executable()
		if err != nil {
			return environmentError("", "find the own binary: %w", err)
		}
		self = path
	}
	cpus := o.CPUs
	if len(cpus.Contender) == 0 || len(cpus.Generator) == 0 {
		planned, err := machine.PlanCPUs()
		if err != nil {
			return environmentError("", "%w", err)
		}
		cpus = planned
	}
	r.bench = bench{lab: o.Lab, scenario: o.Scenario, self: self, cpus: cpus, probes: o.Probes, stages: o.Stages, groups: true}
	group, err := machine.NewCgroup()
	if err == nil {
		err = group.Remove()
	}
	if err != nil {
		r.bench.groups = false
		r.note(fmt.Sprintf("a cgroup for each contender, and with it the kernel probes: %v", err))
	}
	o.Environment.CPUPlan = cpus.Map()
	r.bench.ceilings = o.Ceilings
	if o.Ceilings == nil {
		r.note(noCeiling)
	}
	return nil
}

// note adds to what is not measured, once.
func (r *runner) note(text string) {
	if !contains(r.notMeasured, text) {
		r.notMeasured = append(r.notMeasured, text)
	}
}

func (r *runner) prepareFolder() error {
	o := &r.options
	binary, err := hashFile(r.bench.self)
	if err != nil {
		return environmentError("", "%w", err)
	}
	now := time.Now()
	r.record = runRecord{
		SchemaVersion: reports.SchemaVersion, Scenario: o.Scenario, ScenarioHash: o.Scenario.Hash,
		Path: o.Scenario.Path, Sets: o.Scenario.Sets, BinaryHash: binary, Environment: o.Environment,
		Command: o.Command, StartedAt: now,
		Probes: r.bench.probes != nil && r.bench.groups, Cgroups: r.bench.groups,
	}
	if o.Resume == "" {
		r.folder, err = newFolder(o.RunsDir, labName(o.Lab), o.Scenario.Mode, now)
		if err != nil {
			return err
		}
		r.bench.folder = r.folder.path
		return r.folder.writeJSON(fileRun, &r.record)
	}
	return r.prepareResume()
}

// prepareResume takes over what the interrupted run has finished.
func (r *runner) prepareResume() error {
	then, err := readRunRecord(r.options.Resume)
	if err != nil {
		return err
	}
	if err := then.sameRun(&r.record); err != nil {
		return err
	}
	r.record = *then
	if r.folder, err = openFolder(r.options.Resume); err != nil {
		return err
	}
	r.bench.folder = r.folder.path
	for _, s := range r.slots {
		record, finished := r.folder.finished(s)
		if !finished {
			continue
		}
		r.records[s.index] = record
		r.done++
		for i := range record.Attempts {
			r.order = max(r.order, record.Attempts[i].Order+1)
		}
	}
	return nil
}

func labName(lab *Lab) string { return fmt.Sprintf("day%02d", lab.Day) }

// checkLab complains about names in the scenario that the lab doesn't have.
func (s *Scenario) checkLab(lab *Lab) error {
	complaints := &book{}
	at := func(path string) place {
		if p, found := s.places[path]; found {
			return p
		}
		return place{file: s.Path, line: 1, col: 1}
	}
	if lab.Day != s.Day {
		complaints.add(at("day"), "", "the scenario is for day %d, the lab is day %d", s.Day, lab.Day)
	}
	var contenders, checks []string
	for i := range lab.Contenders {
		contenders = append(contenders, lab.Contenders[i].Name)
	}
	for i := range lab.Checks {
		checks = append(checks, lab.Checks[i].Name)
	}
	for _, c := range s.Contenders {
		if !contains(contenders, c.Name) {
			complaints.add(s.contenderPlace(c.Name), nearest(c.Name, contenders), "day %d has no contender %q: %s", lab.Day, c.Name, oneOf(contenders))
		}
	}
	for i := range s.Contenders {
		c := &s.Contenders[i]
		if k := lab.contender(c.Name); k != nil {
			c.checkParams(k.Params, s.contenderPlace(c.Name), complaints)
		}
	}
	for _, name := range sortedKeys(s.Checks) {
		if !contains(checks, name) {
			complaints.add(at("checks."+name), nearest(name, checks), "day %d has no check %q: %s", lab.Day, name, oneOf(checks))
		}
	}
	return complaints.err()
}

func (l *Lab) contender(name string) *Contender {
	for i := range l.Contenders {
		if l.Contenders[i].Name == name {
			return &l.Contenders[i]
		}
	}
	return nil
}

// checkParams refuses params that the contender would not look at: a misspelt one
// would compare the unchanged design with itself.
func (c *ContenderChoice) checkParams(known map[string][]string, at place, complaints *book) {
	for _, name := range sortedKeys(c.Params) {
		values, found := known[name]
		switch value := c.Params[name]; {
		case !found && len(known) == 0:
			complaints.add(at, "", "%s has no params, %q is given", c.Name, name)
		case !found:
			complaints.add(at, nearest(name, sortedKeys(known)), "%s has no param %q: %s", c.Name, name, oneOf(sortedKeys(known)))
		case len(values) > 0 && !contains(values, value):
			complaints.add(at, nearest(value, values), "%s: %q is no value of param %s: %s", c.Name, value, name, oneOf(values))
		}
	}
}

// contenderPlace is where the file names a contender. Contenders of the other
// mode shift positions, so it goes by name.
func (s *Scenario) contenderPlace(name string) place {
	if p, found := s.places["contender "+name]; found {
		return p
	}
	return place{file: s.Path, line: 1, col: 1}
}
